"""What a run on text reports beside its means: perplexity by position, and lines for the console."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from flax import nnx
from matplotlib.figure import Figure

from experiments.lm.task import labels_by_position, loss_by_position, streaming_losses
from experiments.training.evaluate import make_evaluator
from experiments.training.packing import Params
from experiments.training.records import curve
from experiments.training.setup import Setup


def by_position(setup: Setup, params: Params) -> dict[str, list[dict[str, float]]]:
    """Return, for each split, loss and perplexity per token of ranges of positions that double."""
    metrics = {"loss": loss_by_position, "labels": labels_by_position}
    evaluate = make_evaluator(replace(setup.task, metrics=metrics), setup.eval_batch_size, setup.mesh)
    found = {}
    for split, arrays in setup.task.tests.items():
        sums = {
            name: x.sum(0, dtype=np.float64) for name, x in evaluate(params, setup.mesh.place_dataset(arrays)).items()
        }
        rows = []
        for number, (loss, labels) in enumerate(zip(sums["loss"], sums["labels"], strict=True)):
            if labels:
                mean = loss / labels
                first = 2 ** (number - 1) if number else 0
                rows.append({"first": first, "labels": labels, "loss": mean, "perplexity": math.exp(min(mean, 700))})
        found[split] = rows
    return found


def streaming(setup: Setup, params: Params, graphdef: nnx.GraphDef) -> dict[str, float]:
    """Return bits per byte of each split that is read from its beginning to its end with one state."""
    found = {}
    for split, arrays in setup.task.tests.items():
        losses = np.asarray(streaming_losses(graphdef, params, arrays), np.float64)
        found[f"{split}/bits_per_byte_streaming"] = float(losses.sum() / (math.log(2) * arrays["bytes"].sum()))
    return found


def result_lines(summary: Mapping[str, Any], metric: str) -> list[str]:
    """Return one line per test split."""
    lines = []
    for name, value in summary.items():
        split, _, rest = name.partition("/")
        if rest == metric and split != "train":
            loss = summary[f"{split}/loss"]
            shown = f"{100 * value:.2f} %" if metric == "accuracy" else f"{value:.4f}"
            lines.append(
                f"{split} {metric} {shown} ({summary['weights']} weights), loss {loss:.4g} nats per token, "
                f"perplexity {math.exp(min(loss, 700)):.4g}"
            )
            if f"{split}/bits_per_byte_streaming" in summary:
                lines.append(f"  read with one state {summary[f'{split}/bits_per_byte_streaming']:.4f} bits per byte")
    return lines


def spread(mean: float, deviation: float | None) -> str:
    """Return a metric for people, with its standard deviation over seeds where it has one."""
    return f"{mean:.4f}" + ("" if deviation is None else f" ± {deviation:.4f}")


def learning_figure(log: Sequence[Mapping[str, Any]], split: str, metric: str) -> Figure:
    """Draw the losses and the headline metric on `split` against the epoch."""
    figure = Figure(figsize=(11.0, 4.0), constrained_layout=True)
    losses, scores = figure.subplots(1, 2)
    losses.plot(*curve(log, "train", "loss"), ".-", color="#8a8f98", label="training")
    for weights, color in (("ema", "#0b6fa4"), ("raw", "#d1662a")):
        for axes, name in ((losses, "loss"), (scores, metric)):
            epochs, values = curve(log, "eval", f"{split}/{name}_{weights}")
            if epochs:
                axes.plot(epochs, values, "o-", color=color, markersize=4, label=f"{split}, {weights} weights")
    for axes, name in ((losses, "nats per token"), (scores, metric.replace("_", " "))):
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
        axes.grid(alpha=0.3, linewidth=0.5)
        axes.legend(frameon=False)
    return figure


def position_figure(rows: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Draw the perplexity per token against the position in the row."""
    figure = Figure(figsize=(6.4, 4.0), constrained_layout=True)
    axes = figure.subplots()
    for split, ranges in rows.items():
        axes.plot([1 + row["first"] for row in ranges], [row["perplexity"] for row in ranges], "o-", label=split)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("position in the row, from 1")
    axes.set_ylabel("perplexity per token")
    axes.grid(alpha=0.3, linewidth=0.5)
    axes.legend(frameon=False)
    return figure

"""Which mixer learns best for its parameters and its time? Trains models on one data set, some seeds each, on a GPU:

    python -m benchmarks.comparison --data=elasticity --models=flare,flarepp,flare_pp,backbone_transolver3 \\
        --parameters=592641 --epochs=100 --seeds=0,1,2,3,4 --output=out/comparison_elasticity.json

A model is a type, with options behind colons: `flare_pp:latent_std=1.0:optimizer.learning_rate=5e-4`. Each is trained
with its recipe, whose schedule fits into the epochs. --parameters chooses the width, a multiple of the heads, that
comes nearest to so many, and where feed-forward parts have no residuals of their own their hidden width; --blocks
trains each model with several depths. Results are written after every run, and a second call with the same --output
trains only what is missing; --seconds limits a call. --parallel_seeds=8 trains so many seeds of a model in one program,
whose time they share. --figure draws the error over the seconds and the parameters.
"""

import argparse
import ast
import math
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from benchmarks.command import check_output, exit_status
from benchmarks.timing import device_line, markdown_table, write_results
from benchmarks.train_step import random_dataset, setup_of
from benchmarks.zoo import read_rows
from configs import pde
from configs.common import update
from data_pipeline.command import Parser, integer, seconds
from data_pipeline.dataset import PDEDataset
from data_pipeline.registry import load_dataset
from experiments.errors import NotFiniteError
from experiments.pdebench import models
from experiments.seeds import grouped
from experiments.training.loop import Outcome, train_together
from experiments.training.records import read_log
from experiments.training.setup import Setup
from experiments.training.source import open_source
from flare_jax.params import count_parameters, split

Row = dict[str, Any]
WEIGHTS = ("ema", "raw")
MOST_PER_HEAD = 64


def configuration(spec: str, options: argparse.Namespace, blocks: int | None = None) -> ConfigDict:
    """Return the configuration of a model with the options behind its colons."""
    model_type, *changes = spec.split(":")
    config = pde.get_config(f"model={model_type},data={options.data}" + (",smoke" if options.smoke else ""))
    for change in changes:
        path, _, text = change.partition("=")
        section, _, name = path.rpartition(".")
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            value = text
        update(config[section or "model"], {name: value})
    if blocks:
        update(config.model, {"num_blocks": blocks})
    if options.parameters:
        match_parameters(config, options.parameters)
    update(config.train, {"epochs": options.epochs})
    update(config.eval, {"every": options.epochs})
    update(config.checkpoint, {"every": options.epochs, "keep_best": 0})
    return config


def match_parameters(config: ConfigDict, parameters: int) -> None:
    """Set the width of the model, and the ratio of its feed-forward parts, for so many parameters."""
    candidates = [config.model.num_heads * width for width in range(1, MOST_PER_HEAD + 1)]
    low, high = 0, len(candidates) - 1
    while high - low > 1:  # the number grows with the width
        middle = (low + high) // 2
        low, high = (middle, high) if _count(config, channel_dim=candidates[middle]) < parameters else (low, middle)
    nearest = min(
        (candidates[low], candidates[high]), key=lambda width: abs(_count(config, channel_dim=width) - parameters)
    )
    update(config.model, {"channel_dim": nearest})
    ratio = config.model.get("ffn_mlp_ratio")
    if ratio not in (None, 1.0):  # at ratio 1 their residuals act
        present, larger = _count(config), _count(config, ffn_mlp_ratio=ratio + 1)
        matched = ratio + (parameters - present) / (larger - present)
        update(config.model, {"ffn_mlp_ratio": max(matched, 0.25)})


def parameter_count(config: ConfigDict) -> int:
    """Return the number of parameters of the configuration's model."""
    return _count(config)


def _count(config: ConfigDict, **changes: Any) -> int:
    section = ConfigDict(config.to_dict())
    update(section.model, changes)
    dataset = random_dataset(config.data.name, 2)
    chosen = models.model_options(section.model, models.data_facts(dataset))
    model = nnx.eval_shape(lambda: models.build(section, chosen, dataset.c_in, dataset.c_out, 0))
    return count_parameters(split(model)[1])


def run(config: ConfigDict, dataset: PDEDataset, seeds: Sequence[int]) -> dict[int, Row]:
    """Train some seeds in one program; return of each the test errors of averaged and last weights, and its times.

    `step_ms` is that of all seeds together, `train_s` the share of one in the seconds of training. A seed whose loss
    stops being finite has the reason instead of its errors.
    """
    config = ConfigDict(config.to_dict())
    precision = None if config.train.matmul_precision == "default" else config.train.matmul_precision
    begin = time.perf_counter()
    with jax.default_matmul_precision(precision), tempfile.TemporaryDirectory() as folder:
        setups = [setup_of(config, dataset, seed=seed) for seed in seeds]
        setup, folders = setups[0], [Path(folder) / f"seed_{seed}" for seed in seeds]
        for own in folders:
            own.mkdir()
        source = open_source(setup, config, len(seeds))
        outcomes = train_together(setups, config, folders, source, places=len(seeds), quiet=True)
        logs = [read_log(own / "metrics.jsonl") for own in folders]
        test = setup.mesh.place_dataset(setup.task.tests["test"])
        errors = [_errors(setup, outcome, test) for outcome in outcomes]
    times = [line for log in logs for line in log if line["event"] == "timing"]
    step_ms = times[0]["step_ms"] if times else math.nan
    row = {
        "step_ms": step_ms,
        "train_s": 1e-3 * step_ms * setup.plan.steps / len(seeds),
        "wall_s": time.perf_counter() - begin,
        "parallel_seeds": len(seeds),
    }
    return {seed: {**error, **row} for seed, error in zip(seeds, errors, strict=True)}


def _errors(setup: Setup, outcome: Outcome, test: Mapping[str, Any]) -> Row:
    if isinstance(outcome, NotFiniteError):
        return {"failure": str(outcome)}
    weights = setup.weights(outcome)
    found = {name: setup.evaluate(weights[name], test)[setup.task.headline] for name in WEIGHTS if name in weights}
    return {"errors": {name: float(np.mean(values)) for name, values in found.items()}}


def table(rows: Mapping[str, Row]) -> str:
    """Return one line per model: size, time, mean and deviation over seeds, and its reduction against the first."""
    lines, first = [], None
    for name, row in rows.items():
        values = [min(seed["errors"].values()) for seed in _finished(row)]
        if not values:
            continue
        mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        first = first or mean
        seconds = float(np.mean([seed["train_s"] for seed in _finished(row)]))
        cells = [name, f"{row['parameters']:,}", f"{row['channel_dim']}", f"{seconds:.0f}", str(len(values))]
        lines.append([*cells, f"{mean:.3e} ± {deviation:.1e}", f"{100 * (1 - mean / first):.0f} %"])
    return markdown_table(
        ["model", "parameters", "width", "GPU s", "seeds", "test relative L2", "below the first"], lines
    )


def _finished(row: Row) -> list[Row]:
    """Return the seeds of a model that reached the end."""
    return [seed for seed in row["seeds"].values() if "errors" in seed]


def draw(rows: Mapping[str, Row], path: str, data: str) -> None:
    """Write the figure of the error over the seconds of training and over the parameters, one curve per model."""
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    curves: dict[str, list[Row]] = {}
    for name, row in rows.items():
        if _finished(row):
            curves.setdefault(name.partition(" ")[0], []).append(row)
    for name, points in curves.items():
        points = sorted(points, key=lambda row: row["parameters"])
        errors = [np.mean([min(s["errors"].values()) for s in _finished(row)]) for row in points]
        seconds = [np.mean([s["train_s"] for s in _finished(row)]) for row in points]
        panels[0].plot(seconds, errors, marker="o", markersize=4, label=name)
        panels[1].plot([row["parameters"] for row in points], errors, marker="o", markersize=4)
    for panel, text in zip(panels, ("seconds of training", "parameters"), strict=True):
        panel.set(xscale="log", yscale="log", xlabel=text)
        panel.grid(which="both", alpha=0.3)
    panels[0].set_ylabel(f"test relative L2, {data}")
    figure.legend(loc="outside right center", fontsize=8)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = Parser(prog="python -m benchmarks.comparison", description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="elasticity", help="data set, generated if its files are missing")
    parser.add_argument("--models", required=True, help="model types with options behind colons, separated by commas")
    parser.add_argument("--parameters", type=int, default=0, help="choose widths for so many; 0: those of the recipes")
    parser.add_argument("--blocks", default="", help="depths, separated by commas; those of the recipes if empty")
    parser.add_argument("--epochs", type=integer(1), default=100, help="epochs of each training")
    parser.add_argument("--seeds", default="0", help="seeds, separated by commas")
    parser.add_argument("--parallel_seeds", type=integer(1), default=1, help="seeds that are trained in one program")
    parser.add_argument("--data_dir", default="data", help="folder of the data")
    parser.add_argument("--output", required=True, help="JSON file of the results, continued if it exists")
    parser.add_argument("--figure", help="write the figure here")
    parser.add_argument("--seconds", type=seconds, default=540.0, help="begin no run that would end after so many")
    parser.add_argument("--smoke", action="store_true", help="small networks on few samples, for a test on a CPU")
    options = parser.parse_args(arguments)
    for name, least in (("blocks", 1), ("seeds", 0)):
        for text in filter(None, getattr(options, name).split(",")):
            if not text.isdecimal() or not least <= int(text) < 2**32:
                parser.error(f"--{name} has {text!r}; give integers of at least {least} with commas between them")
    if not options.seeds:
        parser.error("--seeds= is empty; give at least one, such as 0")
    return options


def main(arguments: Sequence[str]) -> int:
    """Train the models one after the other, seed by seed or group by group, and print the table."""
    options = parse(arguments)
    check_output(options.output)
    check_output(options.figure)
    rows: dict[str, Row] = read_rows(options.output)
    planned = list(_plan(options))
    begin = time.monotonic()
    print(f"{options.data}, {options.epochs} epochs, {device_line()}", flush=True)
    section = planned[0][1].data
    fields = ("num_generate", "n_train", "n_test")
    dataset = load_dataset(
        options.data, Path(options.data_dir), source="auto", **{name: section[name] for name in fields}
    )
    print(dataset.source.describe(), flush=True)
    seeds = list(dict.fromkeys(options.seeds.split(",")))
    for group in grouped(seeds, options.parallel_seeds):
        for name, config in planned:
            row = rows.setdefault(
                name, {"parameters": parameter_count(config), "channel_dim": config.model.channel_dim, "seeds": {}}
            )
            wanted = [seed for seed in group if seed not in row["seeds"]]
            # A run takes about as long as one of the same model did.
            expected = max((known["wall_s"] for known in row["seeds"].values()), default=0.0)
            if not wanted or time.monotonic() - begin + expected > options.seconds:
                continue
            for seed, result in run(config, dataset, [int(seed) for seed in wanted]).items():
                row["seeds"][str(seed)] = result
                print(name, seed, result, flush=True)
            write_results(options.output, {"data": options.data, "epochs": options.epochs, "rows": rows})
    missing = sum(seed not in rows[name]["seeds"] for name, _ in planned for seed in seeds)
    if missing:
        print(f"{missing} runs are missing: call again with the same --output for the rest", flush=True)
    print(table(rows))
    if options.figure:
        draw(rows, options.figure, options.data)
    return 0


def _plan(options: argparse.Namespace) -> Iterable[tuple[str, ConfigDict]]:
    """Yield the name and the configuration of every model and depth."""
    for spec in options.models.split(","):
        for blocks in options.blocks.split(","):
            name = f"{spec} {blocks} blocks" if blocks else spec
            yield name, configuration(spec, options, int(blocks) if blocks else None)


if __name__ == "__main__":
    sys.exit(exit_status(main))

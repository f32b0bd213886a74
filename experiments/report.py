"""What a finished run leaves for people: eval.json, per_case.csv, figures, and two lines on the console."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from experiments.training.evaluate import PerCase
from experiments.training.packing import Params
from experiments.training.setup import Setup, by_frame
from experiments.training.state import TrainState
from experiments.training.task import mean_of_defined, summarize_per_case
from experiments.training.tasks.baselines import BASELINES
from experiments.training.tasks.errors import RMS
from experiments.training.tasks.simple import SIMPLE
from runtime.files import replacing
from runtime.json_files import write_json

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def evaluate_all(setup: Setup, state: TrainState, train_samples: int = 0) -> dict[str, dict[str, PerCase]]:
    """Return the metrics per sample as {split: {weights: {metric: [S]}}}, for the tests and the training set.

    Of the latter the first `train_samples` are evaluated, all of them where that is 0.
    """
    train = {name: value[: train_samples or None] for name, value in setup.task.train.items()}
    splits = {**setup.task.tests, "train": train}
    results: dict[str, dict[str, PerCase]] = {}
    for split, arrays in splits.items():
        data = setup.mesh.place_dataset(arrays)
        results[split] = {name: setup.evaluate(params, data) for name, params in setup.weights(state).items()}
    return results


def summarize(
    results: Mapping[str, Mapping[str, PerCase]],
    weights: str,
    baselines: Mapping[str, float],
    weighted_by: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return the content of eval.json: means with the chosen weights first, then both sets, baselines and quantiles.

    `weighted_by` is that of the task.
    """
    means = {
        (split, name): summarize_per_case(per_case, weighted_by)
        for split, sets in results.items()
        for name, per_case in sets.items()
    }
    chosen = {f"{split}/{metric}": value for split in results for metric, value in means[split, weights].items()}
    both = {f"{split}/{m}_{name}": value for (split, name), metrics in means.items() for m, value in metrics.items()}
    quantiles = {
        f"{split}/{metric}_quantiles": _quantiles(values)
        for split, sets in results.items()
        for metric, values in sets[weights].items()
        if metric not in weighted_by.values()
    }
    return {**chosen, "weights": weights, **both, **baselines, **quantiles}


def _quantiles(values: np.ndarray) -> dict[str, float]:
    """Return the quantiles of the values that are not NaN."""
    defined = values[~np.isnan(values)]
    return {f"{q:g}": float(np.quantile(defined, q)) if len(defined) else float("nan") for q in QUANTILES}


def write_eval(workdir: Path, name: str, summary: Mapping[str, Any]) -> None:
    """Write eval.json (or the file of another step)."""
    write_json(workdir / name, dict(summary))


def write_per_case(
    path: Path,
    results: Mapping[str, Mapping[str, PerCase]],
    names: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> None:
    """Write one row per sample: split, case, its name where `names` has them, every metric for every set of weights."""
    first = next(iter(results.values()))
    columns = [(weights, metric) for weights, per_case in first.items() for metric in per_case]
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["split", "case", *(["name"] if names else []), *(f"{metric}_{weights}" for weights, metric in columns)]
        )
        for split, sets in results.items():
            values = [sets[weights][metric] for weights, metric in columns]
            for case, row in enumerate(zip(*values, strict=True)):
                named = [names[split][case]] if names else []
                writer.writerow([split, case, *named, *(f"{value:.8g}" for value in row)])


def evaluate_frames(setup: Setup, params: Params, name: str) -> PerCase:
    """Return the metrics per sample and frame, {metric: [S, T]}, on test `name`, or on "train"."""
    data = setup.mesh.place_dataset({**setup.task.tests, "train": setup.task.train}[name])
    results = setup.evaluate_frames(params, data)
    return {metric: results[metric] for metric in setup.task.frame_metrics}


def evaluate_others(setup: Setup, params: Params) -> dict[str, Any]:
    """Return `SPLIT/METRIC_NAME` of every other prediction of the task for all splits: the mean headline error, and of
    metrics of frames the lists that `means_by_frame` gives."""
    task, errors = setup.task, {}
    for name, evaluate in setup.evaluate_others.items():
        for split, arrays in {**task.tests, "train": task.train}.items():
            found = evaluate(params, setup.mesh.place_dataset(arrays))
            errors[f"{split}/{task.headline}_{name}"] = float(mean_of_defined(found[task.headline]))
            frames = {metric: found[key] for key, metric in by_frame({one: one for one in task.frame_metrics}).items()}
            errors |= {f"{key}_{name}": values for key, values in means_by_frame(split, frames).items()}
    return errors


def means_by_frame(split: str, frames: PerCase) -> dict[str, list[float]]:
    """Return `SPLIT/METRIC_by_frame`, means over the samples [S, T] that have a value, and their medians."""
    found = {}
    for metric, values in frames.items():
        medians = np.ma.median(np.ma.masked_array(values, np.isnan(values)), axis=0)
        found[f"{split}/{metric}_by_frame"] = mean_of_defined(values, 0).tolist()
        found[f"{split}/{metric}_by_frame_median"] = np.ma.filled(medians, np.nan).tolist()
    return found


def write_frames(path: Path, per_frame: PerCase, times: np.ndarray) -> None:
    """Write one row per sample and frame: case, frame, time, then every metric."""
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "frame", "time", *per_frame])
        for case in range(len(next(iter(per_frame.values())))):
            for frame, time in enumerate(times):
                values = (f"{series[case, frame]:.8g}" for series in per_frame.values())
                writer.writerow([case, frame, f"{time:.6g}", *values])


def combine_seeds(summaries: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Return mean and sample standard deviation over seeds of every scalar metric, and the values themselves."""
    first = next(iter(summaries.values()))
    combined: dict[str, Any] = {"seeds": list(summaries)}
    for name, value in first.items():
        if isinstance(value, float) and "/" in name:
            values = [summary[name] for summary in summaries.values()]
            spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
            combined[name] = {"mean": float(np.mean(values)), "std": spread, "values": values}
    return combined


def show_error(mean: float, spread: float | None) -> str:
    """Return an error for people, with its standard deviation over seeds where it has one."""
    return f"{mean:.4e}" + ("" if spread is None else f" ± {spread:.1e}")


def result_lines(summary: Mapping[str, Any], metric: str) -> list[str]:
    """Return one line per test split: the error beside that of a prediction without a model."""
    lines = []
    for name, value in summary.items():
        split, _, rest = name.partition("/")
        if rest == metric and split != "train":
            parts = [f"{split} {metric} {value:.4e} ({summary['weights']} weights)"]
            other = "raw" if summary["weights"] == "ema" else "ema"
            if f"{name}_{other}" in summary:
                parts.append(f"{other} weights {summary[f'{name}_{other}']:.4e}")
            without = _without_a_model(summary, name)
            parts += [f"{words} {error:.4e}" for words, error in without.items()]
            lines.append(", ".join(parts))
            fields = [_field_text(summary, split, metric, field) for field in summary.get("fields", ())]
            if any(fields):
                lines.append("  " + ", ".join(filter(None, fields)))
            lines += _beaten(split, value, without)
    return lines + weights_warnings(summary, metric)


def _without_a_model(summary: Mapping[str, Any], name: str) -> dict[str, float]:
    """Return the errors on metric `SPLIT/METRIC` of predictions that need no network, by what these are."""
    known = {f"{name}_{key}": words for key, words in (BASELINES | SIMPLE).items()}
    return {words: summary[key] for key, words in known.items() if key in summary}


def _field_text(summary: Mapping[str, Any], split: str, metric: str, field: str) -> str:
    """Return the errors of one field, relative and in its unit, as far as there are any."""
    relative, absolute = (summary.get(f"{split}/{kind}/{field}") for kind in (metric, RMS))
    texts = [] if relative is None else [f"{relative:.4e}"]
    texts += [] if absolute is None else [f"RMS {absolute:.4e}" if relative is None else f"(RMS {absolute:.4e})"]
    return " ".join([field, *texts]) if texts else ""


def _beaten(split: str, error: float, without: Mapping[str, float]) -> list[str]:
    """Return a warning where a prediction without a network is as good as the model."""
    best = min(without, key=without.__getitem__, default=None)
    if best is None or error < without[best]:
        return []
    return [
        f"warning: on {split} the model, with an error of {error:.4g}, does not beat {best}, {without[best]:.4g}; "
        "train longer or on more samples, look for inputs that decide the field, or use the simple prediction"
    ]


def weights_warnings(summary: Mapping[str, Any], metric: str) -> list[str]:
    """Return a warning for each test split on which raw and averaged weights differ by more than half."""
    warnings = []
    for name, averaged in summary.items():
        split, _, rest = name.partition("/")
        if rest != f"{metric}_ema" or split == "train":
            continue
        raw = summary[f"{split}/{metric}_raw"]
        if not abs(raw - averaged) <= 0.5 * max(raw, averaged):
            warnings.append(
                f"warning: {split} {metric} is {averaged:.4g} with the averaged weights but {raw:.4g} with the raw "
                "ones; train longer, lower train.ema_decay, or choose the better set by eval.weights"
            )
    return warnings

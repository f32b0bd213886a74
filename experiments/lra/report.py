"""What a sequence run reports beside its means: confusion, accuracy by length, and lines for the console."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from data_pipeline.sequence.dataset import SequenceDataset, TokenSplit
from experiments.lra.task import majority_accuracy
from experiments.report import weights_warnings
from experiments.training.evaluate import PerCase

BINS = 8


def take_confusions(results: Mapping[str, Mapping[str, PerCase]], weights: str) -> dict[str, np.ndarray]:
    """Take the confusion out of the results per sample of all splits and weights, {split: {weights: {metric: [S]}}}.

    Return how often each class (rows) of each test split is predicted as each class (columns), [K, K], with the chosen
    weights.
    """
    taken = {split: {name: one.pop("confusion") for name, one in sets.items()} for split, sets in results.items()}
    return {split: sets[weights].sum(0, dtype=np.int64) for split, sets in taken.items() if split != "train"}


def by_length(split: TokenSplit, per_case: PerCase, metric: str) -> list[dict[str, float]]:
    """Return the accuracy in up to `BINS` ranges of lengths that hold about equally many samples.

    Token accuracies are weighted by the number of labels; lengths from `first` to `last` belong to a range.
    """
    edges = np.unique(np.quantile(split.lengths, np.linspace(0, 1, BINS + 1)[1:], method="inverted_cdf"))
    weights = per_case["valid_labels"] if metric == "token_accuracy" else np.ones(len(split))
    rows, below = [], -1
    for edge in edges:
        inside = (split.lengths > below) & (split.lengths <= edge)
        below = edge
        if weights[inside].sum():
            rows.append(
                {
                    "first": int(split.lengths[inside].min()),
                    "last": int(split.lengths[inside].max()),
                    "samples": int(inside.sum()),
                    metric: float(np.average(per_case[metric][inside], weights=weights[inside])),
                }
            )
    return rows


def baselines(dataset: SequenceDataset, metric: str, train_samples: int) -> dict[str, float]:
    """Return what always predicting the commonest class reaches on every split, of training on the samples evaluated.

    These are the first `train_samples`, all where that is 0.
    """
    splits = {**dataset.tests, "train": dataset.train.first(train_samples or len(dataset.train))}
    return {f"{name}/{metric}_majority": majority_accuracy(dataset, split, metric) for name, split in splits.items()}


def result_lines(summary: Mapping[str, Any], metric: str) -> list[str]:
    """Return one line per test split: the accuracy beside that of always predicting the commonest class."""
    lines = []
    for name, value in summary.items():
        split, _, rest = name.partition("/")
        if rest == metric and split != "train":
            parts = [f"{split} {metric} {percent(value)} ({summary['weights']} weights)"]
            parts.append(f"loss {summary[f'{split}/loss']:.4g}")
            parts.append(f"always the commonest class {percent(summary[f'{split}/{metric}_majority'])}")
            lines.append(", ".join(parts))
    return lines + weights_warnings(summary, metric)


def percent(value: float) -> str:
    """Return a share for people."""
    return f"{100 * value:.2f} %"


def spread(mean: float, deviation: float | None) -> str:
    """Return a share for people, with its standard deviation over seeds where it has one."""
    return percent(mean) + ("" if deviation is None else f" ± {percent(deviation)}")

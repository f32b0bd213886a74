"""What the finished runs of a study give: rows of numbers, means and spreads over seeds, as CSV and markdown."""

import csv
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runtime.files import replacing, write_text

WORDS = {
    "error": "error",
    "train_error": "training error",
    "accuracy": "accuracy",
    "train_accuracy": "training accuracy",
    "mean_error": "error of the training mean",
    "nearest_parts_error": "error of the nearest training parts",
    "nearest_parts_median_error": "median error of the nearest training parts",
    "copy_last_error": "error of leaving every node as it is",
    "nearest_fill_error": "error of new nodes like those below",
    "nearest_fill_median_error": "median error of new nodes like those below",
    "teacher_forced_error": "error from true states",
    "last_error": "error at the last step",
    "error_by_step": "error",
    "error_quantile_0.5": "median error",
    "r2_0.5": "median R²",
    "parameters": "parameters",
    "step_ms": "ms per step",
    "epoch_s": "seconds per epoch",
    "train_s": "seconds of training",
    "compile_s": "seconds of compilation",
    "peak_gib": "peak GiB",
    "effective_rank": "effective rank",
    "seconds": "seconds",
    "tokens_per_s": "tokens per second",
    "token_ms": "ms per decoded token",
    "state_mib": "MiB of state",
}


@dataclass(frozen=True)
class Statistic:
    """Mean and sample standard deviation (0 for one) of `count` seeds."""

    mean: float
    std: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Statistic":
        """Return that of some values."""
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0, len(values))


@dataclass(frozen=True)
class Row:
    """One point of a study: its labels, its numbers and the original's by metric, and the kind of its data."""

    labels: Mapping[str, Any]
    values: Mapping[str, Statistic]
    published: Mapping[str, float]
    data: str = ""


def make_row(
    labels: Mapping[str, Any],
    seeds: Sequence[Mapping[str, float]],
    columns: Sequence[str],
    published: Mapping[str, Mapping[tuple[Any, ...], float]],
    data: str = "",
) -> Row:
    """Return the row of one point from the numbers of its seeds, with the published ones of these labels."""
    names = dict.fromkeys(name for seed in seeds for name in seed)
    values = {name: Statistic.of([seed[name] for seed in seeds if name in seed]) for name in names}
    place = tuple(labels.get(column) for column in columns)
    known = {metric: numbers[place] for metric, numbers in published.items() if place in numbers}
    return Row(labels, values, known, data)


# Column of the kind of a row's data, generated or public; "data" may be one of the study's own.
KIND = "data_kind"


def read_csv(path: Path, columns: Sequence[str], published: Mapping[str, Mapping[tuple[Any, ...], float]]) -> list[Row]:
    """Return the rows of a table that `write_csv` wrote for a study with these columns and published numbers."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    metrics = [name.removesuffix("_std") for name in (lines[0] if lines else ()) if name.endswith("_std")]
    rows = []
    for line in lines:
        labels = {name: int(line[name]) if line[name].isdecimal() else line[name] for name in columns}
        row = make_row(labels, (), columns, published, line[KIND])
        values = {
            name: Statistic(float(line[name]), float(line[f"{name}_std"]), int(line[f"{name}_seeds"]))
            for name in metrics
            if line[name]
        }
        rows.append(replace(row, values=values))
    return rows


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Write every number: mean, deviation and number of seeds of each metric, and what is published."""
    metrics = list(dict.fromkeys(name for row in rows for name in row.values))
    published = list(dict.fromkeys(name for row in rows for name in row.published))
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            [*columns, KIND, *(f"{name}{end}" for name in metrics for end in ("", "_std", "_seeds")),
             *(f"{name}_published" for name in published)]
        )  # fmt: skip
        for row in rows:
            numbers = [row.values.get(name) for name in metrics]
            cells = [
                ("", "", "") if one is None else (f"{one.mean:.8g}", f"{one.std:.8g}", one.count) for one in numbers
            ]
            known = [f"{row.published[name]:.8g}" if name in row.published else "" for name in published]
            labels = [row.labels.get(column, "") for column in columns]
            writer.writerow([*labels, row.data, *(text for cell in cells for text in cell), *known])


def write_markdown(path: Path, title: str, columns: Sequence[str], metrics: Sequence[str], rows: Sequence[Row]) -> None:
    """Write the table for people: labels, metrics as mean ± deviation, and what is published beside its metric."""
    write_text(path, f"# {title}\n\n{markdown(columns, metrics, rows)}{_note(rows)}")


def markdown(columns: Sequence[str], metrics: Sequence[str], rows: Sequence[Row]) -> str:
    """Return the rows as a markdown table."""
    shown = [name for name in metrics if any(name in row.values or name in row.published for row in rows)]
    head = [*columns, "seeds"]
    for name in shown:
        head.append(WORDS.get(name, name))
        if any(name in row.published for row in rows):
            head.append(f"{WORDS.get(name, name)}, published")
    lines = [head, ["---"] * len(head)]
    for row in rows:
        first = row.values.get(shown[0]) if shown else None
        line = [*(str(row.labels.get(column, "")) for column in columns), str(first.count if first else 0)]
        for name in shown:
            line.append(as_text(name, row.values.get(name)))
            if f"{WORDS.get(name, name)}, published" in head:
                known = row.published.get(name)
                line.append("–" if known is None else number(name, known))
        lines.append(line)
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)


def as_text(name: str, value: Statistic | None) -> str:
    """Return a number as text, with its deviation where there are several seeds that differ."""
    if value is None:
        return "–"
    text = number(name, value.mean)
    return f"{text} ± {number(name, value.std)}" if value.count > 1 and value.std > 0 else text


def number(name: str, value: float) -> str:
    """Return a number as people write it in a column of such numbers."""
    if name == "parameters":
        return f"{value:,.0f}"
    if "error" in name:  # of 1 and more: bits per byte, of which a hundredth counts
        return f"{value:.4g}" if value >= 1 else f"{value:.2e}"
    return f"{value:.3g}"


def _note(rows: Sequence[Row]) -> str:
    kinds = sorted({row.data for row in rows if row.data})
    ours = f"Ours: {' and '.join(kinds)} data." if kinds else ""
    most = max((row.values["together"].mean for row in rows if "together" in row.values), default=1)
    shared = f"Times are the share of one of up to {most:.0f} seeds that were trained together, memory is that of all."
    published = "Published numbers are the original's, one run each, on public data and its own machine."
    parts = [ours, shared if most > 1 else "", published if any(row.published for row in rows) else ""]
    text = " ".join(filter(None, parts))
    return f"\n{text}\n" if text else ""

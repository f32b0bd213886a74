"""Which training steps `benchmarks.devices` measures, and what it compares them with."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

SCALINGS = ("strong", "weak")
SHARDED = ("points", "batch")
COLUMNS = (
    "model", "scaling", "sharded", "devices", "batch", "points", "step_ms", "efficiency", "peak_gib", "planned_gib",
    "bytes", "formula_bytes", "sums", "hidden_sums", "loss", "loss_differs_by", "grad_norm", "grad_norm_differs_by",
    "compile_s", "error",
)  # fmt: skip


class Work(NamedTuple):
    """A training step to be measured: samples and points of a batch, and the devices that share either."""

    model: str
    batch: int
    points: int
    data: int = 1
    along_points: int = 1

    @property
    def devices(self) -> int:
        return self.data * self.along_points

    @property
    def name(self) -> str:
        """What is printed of it."""
        mesh = f"{self.data}x{self.along_points}"
        return f"{self.model}, {self.batch} x {self.points} points on {mesh} device{'s' if self.devices > 1 else ''}"


class Case(NamedTuple):
    """A line of the table: how the work grows with the devices, what they share, and the step that is measured."""

    model: str
    scaling: str
    sharded: str
    work: Work
    base: Work

    @property
    def alone(self) -> Work:
        """The same work on one device, whose loss and gradient it must have."""
        return self.work._replace(data=1, along_points=1)

    @property
    def ideal(self) -> int:
        """By what factor the step of `base` would be faster on ideal devices."""
        return self.work.devices // self.base.devices if self.scaling == "strong" else 1


def cases_of(
    models: Sequence[str], devices: Sequence[int], points: int, scalings: Sequence[str], sharded: Sequence[str]
) -> list[Case]:
    """Return all lines of the table.

    In strong scaling the devices share `points` points, of one sample or of as many samples as there are devices at
    most; in weak scaling each of them has so many. Efficiency is against the least number of devices; loss and gradient
    are compared where that is one.
    """
    counts, most = sorted(set(devices)), max(devices)
    found = []
    for model in models:
        for scaling in scalings:
            for what in sharded:
                works = [_work(model, scaling, what, count, most, points) for count in counts]
                found += [Case(model, scaling, what, work, works[0]) for work in works]
    return found


def _work(model: str, scaling: str, sharded: str, count: int, most: int, points: int) -> Work:
    if sharded == "points":
        return Work(model, 1, points if scaling == "strong" else count * points, along_points=count)
    if scaling == "strong":
        return Work(model, most, points // most, data=count)
    return Work(model, count, points, data=count)


def works_of(cases: Sequence[Case]) -> list[Work]:
    """Return the steps to be measured, each once: those of the table, then those that they are compared with."""
    alone = [case.alone for case in cases if case.base.devices == 1]
    return list(dict.fromkeys([*(case.work for case in cases), *alone]))


def rows_of(cases: Sequence[Case], answers: dict[Work, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the lines of the cases that were measured, or tried in vain, with the keys `COLUMNS`."""
    for case in cases:
        if case.work not in answers:
            continue
        found = answers[case.work]
        row = dict.fromkeys(COLUMNS) | {name: value for name, value in found.items() if name in COLUMNS}
        row |= {"model": case.model, "scaling": case.scaling, "sharded": case.sharded, "devices": case.work.devices}
        row |= {"batch": case.work.batch, "points": case.work.points}
        if "step_ms" in found:
            base, alone = answers.get(case.base, {}), answers.get(case.alone, {})
            if "step_ms" in base:
                row["efficiency"] = base["step_ms"] / (case.ideal * found["step_ms"])
            for name in ("loss", "grad_norm") if "step_ms" in alone else ():
                row[f"{name}_differs_by"] = abs(found[name] - alone[name]) / abs(alone[name])
        yield row


HEADER = (
    "model", "scaling", "sharded", "GPUs", "batch x points", "ms/step", "efficiency", "GiB", "MB summed", "by formula",
    "sums", "hidden", "loss", "gradient norm",
)  # fmt: skip


def cells(row: dict[str, Any]) -> list[str]:
    """Return a line as text; loss and gradient norm are their differences from one device."""
    head = [row["model"], row["scaling"], row["sharded"], str(row["devices"]), f"{row['batch']} x {row['points']}"]
    if row["error"]:
        return [*head, row["error"], *[""] * (len(HEADER) - len(head) - 1)]
    memory = row["planned_gib"] if row["peak_gib"] is None else row["peak_gib"]
    return [
        *head,
        f"{row['step_ms']:.2f}",
        _text(row["efficiency"], "{:.3f}"),
        _text(memory, "{:.2f}"),
        f"{row['bytes'] / 1e6:.3f}",
        "" if row["formula_bytes"] is None else f"{row['formula_bytes'] / 1e6:.3f}",
        f"{row['sums']:g}",
        f"{row['hidden_sums']:g}",
        _text(row["loss_differs_by"], "{:.1e}"),
        _text(row["grad_norm_differs_by"], "{:.1e}"),
    ]


def _text(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)

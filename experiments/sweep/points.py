"""The points of a study: which of them --where chooses, and which options --set may change without false labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.errors import UserError
from experiments.sweep.study import Labels, Measurement, Part, Study

Where = Mapping[str, Sequence[str]]
# What a config is made for: the labels of its part say it.
_OF_CONFIG = ("data.name", "model.type", "model.backend")


@dataclass(frozen=True)
class Point:
    """One run of a part: the labels that its row has, and the options that the part gives it."""

    part: Part | Measurement
    labels: Labels
    options: Mapping[str, Any]


def points_of(study: Study) -> list[Point]:
    """Return the points of a study, in its order."""
    points = []
    for part in study.parts:
        if isinstance(part, Measurement):
            points.append(Point(part, part.labels or {"program": part.module}, {}))
        else:
            points += [Point(part, labels, options) for labels, options in part.points()]
    return points


def choose_points(study: Study, where: Where) -> list[Point]:
    """Return the points with the labels of `where`, {column: values}; raises UserError for a value that none has."""
    points = points_of(study)
    columns = list(dict.fromkeys(column for point in points for column in point.labels))
    for column, values in where.items():
        known = {str(point.labels[column]) for point in points if column in point.labels}
        unknown = sorted(set(values) - known)
        if unknown:
            choices = ", ".join(sorted(known)) if known else f"the columns {', '.join(columns)}"
            raise UserError(
                f"--where={column}={unknown[0]} chooses no run of study {study.name}; choose from {choices}"
            )
    return [point for point in points if _is_chosen(point, where)]


def check_changes(study: Study, where: Where, changes: Mapping[str, Any]) -> None:
    """Raise UserError for a change by which a chosen run would no longer be what its labels say.

    That is one of an option that an axis varies, and one by which runs of one config with different labels, which
    differ in the option, would become alike.
    """
    points = [point for point in points_of(study) if isinstance(point.part, Part)]
    for name, value in changes.items():
        for point in points:
            column = _column_of(name, value, point, points, where, changes) if _is_chosen(point, where) else None
            if column is not None:
                label = f"{column}={point.labels.get(column)}"
                raise UserError(
                    f"--set={name}={value} would make the label {label} false, for study {study.name} varies {name}; "
                    f'leave it out and choose runs with --where="{column}={_choices(column, name, value, points)}"'
                )
        if name in _OF_CONFIG and points:
            raise UserError(
                f"--set={name}={value} would make labels false, for the configs of study {study.name} choose {name}; "
                "leave it out and choose runs with --where, or write a study with another config"
            )


def _is_chosen(point: Point, where: Where) -> bool:
    return all(str(point.labels.get(column)) in values for column, values in where.items())


def _column_of(
    name: str, value: Any, point: Point, points: Sequence[Point], where: Where, changes: Mapping[str, Any]
) -> str | None:
    """Return the column whose label at `point` option `name`=`value` would make false, or None."""
    own = point.options.get(name)
    if own == value:
        return None
    for axis in point.part.axes:
        if name in axis.options:
            return axis.column
    is_label = any(str(label) == str(own) for label in point.labels.values())
    columns = [
        _different(point.labels, other.labels)
        for other in points
        if other.part.config == point.part.config and other.options.get(name) != own
        # Of one run alone an option may change that goes with a label without being what it says, such as the size of
        # its batches.
        if is_label or _is_chosen(other, where) or _becomes(point, other, name, value, changes)
    ]
    # The fewer columns two runs differ in, the surer it is which of them the option belongs to.
    return next((different[0] for different in sorted(columns, key=len) if different), None)


def _different(one: Labels, other: Labels) -> list[str]:
    return [column for column in {**one, **other} if one.get(column) != other.get(column)]


def _becomes(point: Point, other: Point, name: str, value: Any, changes: Mapping[str, Any]) -> bool:
    """Tell whether `point` has the options of `other`, as far as it has any, once `name` is `value`."""
    options = {key: one for key, one in point.options.items() if key not in changes}
    return all(other.options.get(key) == one for key, one in {**options, name: value}.items())


def _choices(column: str, name: str, value: Any, points: Sequence[Point]) -> str:
    """Return the labels of a column, with | between them: those that stand for `value` where there are some."""
    labeled = [point for point in points if column in point.labels and name in point.options]
    fitting = [point for point in labeled if point.options[name] == value] or labeled
    return "|".join(dict.fromkeys(str(point.labels[column]) for point in fitting))

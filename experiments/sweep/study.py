"""What a study is: which runs, what is collected of them, and which figures show it.

A study is a short file in studies/ with a function `get_study(variant)`; `variant` is what stands behind the colon of
--study, "" or "smoke" in all of them.
"""

import runpy
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from experiments.cli import own_file
from experiments.errors import UserError
from experiments.sweep.figures import Drawing

Labels = Mapping[str, Any]
Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Axis:
    """What is varied: the values that the options (dotted, such as model.num_blocks) take, in column `column`."""

    column: str
    options: tuple[str, ...]
    values: tuple[Any, ...]


def axis(option: str, *values: Any) -> Axis:
    """Return the axis of one option, whose last part names the column."""
    return Axis(option.rpartition(".")[2], (option,), values)


@dataclass(frozen=True, kw_only=True)
class Part:
    """Training runs of one config: all combinations of the values of `axes`.

    `options` are given to all of them, among them train.seeds where these are not the study's, and `labels` say what
    they have in common, in columns of their own. `collect` names further metrics by their names in eval.json,
    SPLIT/METRIC; of one with several numbers, such as quantiles or those of frames, each is a metric NAME_0, NAME_1,
    …, or NAME_0.5 by its key.
    """

    config: str
    axes: tuple[Axis, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    labels: Labels = field(default_factory=dict)
    collect: Mapping[str, str] = field(default_factory=dict)

    def points(self) -> Iterator[tuple[Labels, Mapping[str, Any]]]:
        """Yield the labels and the options of every run."""
        for values in product(*(one.values for one in self.axes)):
            chosen = list(zip(self.axes, values, strict=True))
            given = {name: value for one, value in chosen for name in one.options}
            yield {**self.labels, **{one.column: value for one, value in chosen}}, {**self.options, **given}


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One run of another program than a training, `python -m module arguments`; {folder} stands for the run's folder.

    `read` returns labels and numbers of every row that it left in its folder.
    """

    module: str
    arguments: tuple[str, ...]
    read: Callable[[Path], list[tuple[Labels, Metrics]]]
    labels: Labels = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study: its runs in `parts`, the columns by which they are told apart, and what is shown of them.

    `error` names the metric of eval.json that counts, `metrics` what the tables have: error and train_error (accuracy
    and train_accuracy where the metric is one), parameters, step_ms, epoch_s, train_s, compile_s, peak_gib, what a part
    collects or a `Measurement` reads. `published` holds the original's numbers by metric and the values of `columns`.
    With `analyze` the attention of every trained model is analysed too, which adds the metrics effective_rank and
    effective_rank_0, … of the blocks.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    parts: tuple[Part | Measurement, ...]
    figures: Mapping[str, Drawing]
    seeds: tuple[int, ...] = (0,)
    error: str = "test/rel_l2"
    metrics: tuple[str, ...] = ("error", "train_error", "parameters", "epoch_s", "peak_gib")
    published: Mapping[str, Mapping[tuple[Any, ...], float]] = field(default_factory=dict)
    analyze: bool = False


def load_study(path: str) -> Study:
    """Return the study of `path.py` or `path.py:variant`; raises UserError where there is none."""
    file, _, variant = path.partition(":")
    file = own_file(file)
    if not Path(file).is_file():
        raise UserError(f"study {file!r} does not exist; those that come with the project are in studies/")
    try:
        get_study = runpy.run_path(file).get("get_study")
        study = get_study(variant) if callable(get_study) else None
    except (UserError, ValueError) as error:
        raise UserError(f"study {file}: {error}") from error
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
        place = f", line {lines[-1]}" if lines else ""
        raise UserError(f"study {file} cannot be used ({type(error).__name__}: {error}{place}); correct it") from error
    if not isinstance(study, Study):
        raise UserError(f"study {file} defines no function get_study that returns a Study; see studies/num_blocks.py")
    # The tables of a variant are not those of the study.
    return replace(study, name=f"{study.name}_{variant}") if variant else study


def choose_variant(variant: str, full: Any, smoke: Any) -> Any:
    """Return what a study has for a variant, "" or "smoke"; raises ValueError for another one."""
    if variant not in ("", "smoke"):
        raise ValueError(f"study variant {variant!r} is not known; choose smoke or none")
    return smoke if variant else full


def grid(rows: Mapping[Any, str], columns: tuple[Any, ...], scale: float = 1e-3) -> dict[tuple[Any, Any], float]:
    """Return published numbers as {(row, column): value}; a row is text with a number for each column, - for none."""
    values = {row: zip(columns, text.split(), strict=True) for row, text in rows.items()}
    return {
        (row, column): scale * float(text) for row, cells in values.items() for column, text in cells if text != "-"
    }

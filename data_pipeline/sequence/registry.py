"""Finding a task by name, its files by layout, and generating them where that is asked for and possible."""

import importlib
import pkgutil
import types
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_pipeline import sequence
from data_pipeline.dataset import Source
from data_pipeline.download.sources import BY_NAME
from data_pipeline.errors import DataError
from data_pipeline.files import check_generated_with, read_source
from data_pipeline.options import check_given
from data_pipeline.registry import SOURCES
from data_pipeline.sequence.dataset import SequenceDataset, TokenSplit
from data_pipeline.sequence.layout import Layout, SequenceTask
from runtime.options import defaults_of


def _tasks() -> Iterator[SequenceTask]:
    """Yield the `TASK`, or the `TASKS`, of every module of this package."""
    for found in pkgutil.iter_modules(sequence.__path__):
        if found.name != "registry":
            module = importlib.import_module(f"{sequence.__name__}.{found.name}")
            yield from getattr(module, "TASKS", ())
            if hasattr(module, "TASK"):
                yield module.TASK


TASKS: Mapping[str, SequenceTask] = types.MappingProxyType({task.name: task for task in _tasks()})
ALIASES = {"path-x": "pathfinder128"}


def find_task(name: str) -> SequenceTask:
    """Return the task of this name or alias; raises DataError."""
    name = ALIASES.get(name, name)
    if name not in TASKS:
        raise DataError(f"data.name={name!r} is not a task; choose one of {', '.join(sorted(TASKS))}")
    return TASKS[name]


def load_task(
    name: str,
    data_dir: Path,
    *,
    source: str = "files",
    num_generate: int,
    generate_seed: int = 0,
    n_train: int = 0,
    n_test: int = 0,
    options: Mapping[str, Any] | None = None,
    asked: Collection[str] = (),
    say: Callable[[str], None] = print,
) -> SequenceDataset:
    """Load task `name` below `data_dir`.

    `source` is "files" (never generate), "auto" (files that are there, else generated ones of the same kind) or
    "generated" (never public files). Generation makes `num_generate` samples of seed `generate_seed`; files at hand
    must have been generated with those of the two that are `asked` for. `n_train` and
    `n_test` keep the first samples of the training and at most so many of each other split; 0 keeps all. `options` are
    those of the task. Raises DataError.
    """
    task = find_task(name)
    if source not in SOURCES:
        raise DataError(f"data.source={source!r} is not known; choose one of {', '.join(SOURCES)}")
    check_given(f"task {task.name}", task.options, options or {})
    values = {**defaults_of(task.options), **(options or {})}
    layout = _layout_at_hand(task, data_dir, source, values)
    if layout is None:
        if not _can_generate(task, source, values):
            raise DataError(_where_to_get(task, data_dir, num_generate, generate_seed, values))
        layout = task.generated
        _generate(task, data_dir, num_generate, generate_seed, layout.place(data_dir, values), say)
    else:
        wanted = {"num_generate": num_generate, "generate_seed": generate_seed}
        check_generated_with(layout.place(data_dir, values), {name: wanted[name] for name in asked})
    folder = layout.place(data_dir, values)
    dataset = layout.read(folder, **layout.arguments(values))
    _check_used(task, layout, values, {**layout.fixed, "max_length": dataset.max_length})
    detail = read_source(folder)
    kind = "public files" if detail is None else "generated"
    return _limited(replace(dataset, source=Source(kind, str(folder), detail or {})), n_train, n_test)


def _layout_at_hand(task: SequenceTask, data_dir: Path, source: str, values: Mapping[str, Any]) -> Layout | None:
    """Return the first layout whose files are all there and which `source` allows."""
    if source != "generated":
        return next((layout for layout in task.layouts if layout.complete(data_dir, values)), None)
    layout = task.generated
    if layout is None or not layout.complete(data_dir, values):
        return None
    folder = layout.place(data_dir, values)
    if read_source(folder) is None:
        raise DataError(
            f"{folder} holds public files, but data.source=generated; use another --data_dir or data.source=files"
        )
    return layout


def _can_generate(task: SequenceTask, source: str, values: Mapping[str, Any]) -> bool:
    """Return whether `source` allows generation and a generator makes the files that the options ask for."""
    if task.generator is None or task.generated is None or source == "files" or (source == "auto" and task.stand_in):
        return False
    return task.generated.folder.format(**values) == task.generated.folder.format(**defaults_of(task.options))


def _generate(
    task: SequenceTask, data_dir: Path, num: int, seed: int, folder: Path, say: Callable[[str], None]
) -> None:
    what = "artificial stand-in samples" if task.stand_in else "samples"
    say(f"{task.name}: no generated files in {folder}; generating {num} {what} (seed {seed})")
    # Imported here: the package also serves generators with solvers, which reading files does not need.
    from data_pipeline.generate import generate

    generate(task.generator, data_dir, num, seed)


def _where_to_get(task: SequenceTask, data_dir: Path, num: int, seed: int, values: Mapping[str, Any]) -> str:
    """Return the sentence about missing files."""
    wanted = " or ".join(f"{layout.place(data_dir, values)}/{layout.files[0]}" for layout in task.layouts)
    fetched = f" (python -m data_pipeline.download {task.name} --data_dir={data_dir})" if task.name in BY_NAME else ""
    remedies = [f"get the files from {task.download}{fetched}"] if task.download else []
    if task.stand_in:
        remedies.append("set data.source=generated to try the program on an artificial stand-in")
    elif task.generator is not None:
        command = f"python -m data_pipeline.generate {task.generator} --num={num} --seed={seed} --out={data_dir}"
        remedies += [f"run `{command}`", "set data.source=generated"]
    return f"{task.name}: none of {wanted} found; {', or '.join(remedies)}"


def _check_used(task: SequenceTask, layout: Layout, values: Mapping[str, Any], fixed: Mapping[str, Any]) -> None:
    """Raise for an option that was changed to something else than what the files at hand decide by themselves."""
    for name, value in values.items():
        if value not in (task.options[name].default, fixed.get(name)) and not layout.uses(name):
            raise DataError(f"data.{name}={value} has no effect on {layout.files[0]} of {task.name}; leave it out")


def _limited(dataset: SequenceDataset, n_train: int, n_test: int) -> SequenceDataset:
    if not 0 <= n_train <= len(dataset.train):
        raise DataError(
            f"data.n_train={n_train}, but {dataset.name} has {len(dataset.train)} training samples; choose from 1 to "
            f"{len(dataset.train)}, or 0 for all"
        )
    if n_test < 0:
        raise DataError(f"data.n_test={n_test} must not be negative; 0 takes all")

    def at_most(split: TokenSplit, count: int) -> TokenSplit:
        return split.first(count) if count else split

    tests = {name: at_most(split, n_test) for name, split in dataset.tests.items()}
    return replace(dataset, train=at_most(dataset.train, n_train), tests=tests)

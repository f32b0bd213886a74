"""What one data set adds to the machinery shared by all: how to solve samples and how to lay them out in files."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from data_pipeline.generate.chunks import Samples


@dataclass(frozen=True)
class Settings:
    """Choices that some generators offer; None leaves the generator's default.

    Fields:
        resolution: grid points per side of the stored fields.
        refinement: how many times finer than the stored grid the solver's grid is.
        precision: "float32" or "float64" arithmetic.
    """

    resolution: int | None = None
    refinement: int | None = None
    precision: str | None = None

    def refuse(self, names: str, generator: str) -> None:
        """Raise ValueError when a setting is chosen that is not among `names`, those of `generator`."""
        for name, value in asdict(self).items():
            if value is not None and name not in names.split():
                offer = f"choose among {', '.join(names.split())}" if names else "leave it out"
                raise ValueError(f"the {generator} generator has no setting {name}, got {value!r}; {offer}")


@dataclass(frozen=True)
class Generator:
    """One generated data set; its module holds one of these under the name `GENERATOR`.

    Fields:
        name: name of the data set, as on the command line.
        folder: where the public data set keeps its files, below the data root.
        files: names of all data files in that folder.
        num: number of samples of the public data set, the default.
        chunk: samples solved and kept together; one chunk should take seconds.
        solver, version: the method in one line, and a number to raise with every change of the results.
        details: further facts for SOURCE.json, mainly where the data differ from the public ones.
        solve: `solve(seed, indices)` gives named arrays with one row per index. A row may depend on nothing but the
            seed and its index. Called in worker processes.
        export: `export(arrays, folder)` writes all `files` from the arrays of all samples.
        settings: the values behind `Settings` that these samples are made with, for SOURCE.json.
        configure: `configure(settings)` gives the generator with other settings; None where there is no choice.
            Raises ValueError for settings that cannot be.
        max_workers: most processes that make sense, 1 where one process keeps all cores or the GPU busy.
        ragged: samples have arrays of different lengths, so that `chunk` is 1.
    """

    name: str
    folder: str
    files: tuple[str, ...]
    num: int
    chunk: int
    solver: str
    version: int
    details: Mapping[str, str]
    solve: Callable[[int, range], dict[str, np.ndarray]]
    export: Callable[[Samples, Path], None]
    settings: Mapping[str, int | str] = field(default_factory=dict)
    configure: "Callable[[Settings], Generator] | None" = None
    max_workers: int | None = None
    ragged: bool = False


def load_generator(source: str, settings: Settings | None = None) -> Generator:
    """Return the generator that a module defines, with the given settings.

    `source` is `module`, for the module's `GENERATOR`, or `module:variant`, for one of the module's `GENERATORS`.
    """
    name, _, variant = source.partition(":")
    module = importlib.import_module(name)
    generator = module.GENERATORS[variant] if variant else module.GENERATOR
    if settings is None or settings == Settings():
        return generator
    if generator.configure is None:
        settings.refuse("", generator.name)
    return generator.configure(settings)

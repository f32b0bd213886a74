"""What one data set adds to the machinery shared by all: how to solve samples and how to lay them out in files."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np


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
    export: Callable[[dict[str, np.ndarray], Path], None]


def load_generator(module: str) -> Generator:
    """Return the generator that the named module defines."""
    return importlib.import_module(module).GENERATOR

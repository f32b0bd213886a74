"""A tiny generator for the tests of the shared machinery: a row is a function of the seed and its index."""

import os
import time
from pathlib import Path

import numpy as np

from data_pipeline.generate.generator import Generator

DYING_SEED = 99
# A chunk takes long enough to be interrupted.
SLOW_SEED = 98


def _solve(seed: int, indices: range) -> dict[str, np.ndarray]:
    if seed == DYING_SEED and 5 in indices:
        os._exit(3)
    if seed == SLOW_SEED:
        time.sleep(0.25)
    print("output of a solver must not disturb the worker's answers")
    return {"values": np.array([np.random.default_rng([seed, index]).standard_normal(3) for index in indices])}


def _export(arrays: dict[str, np.ndarray], folder: Path) -> None:
    np.save(folder / "a.npy", arrays["values"])
    np.save(folder / "b.npy", -arrays["values"])


GENERATOR = Generator(
    name="toy",
    folder="Toy/Meshes",
    files=("a.npy", "b.npy"),
    num=7,
    chunk=2,
    solver="random numbers",
    version=4,
    details={"a": "values"},
    solve=_solve,
    export=_export,
)

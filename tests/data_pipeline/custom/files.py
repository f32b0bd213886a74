"""Small samples of a user's own data in every format."""

from pathlib import Path

import h5py
import numpy as np

CELLS = np.array([[0, 1, 2], [1, 2, 3]])


def sample(number: int, points: int = 6, dimensions: int = 2) -> dict[str, np.ndarray]:
    """Return a sample with a number of its own everywhere."""
    rng = np.random.default_rng(number)
    return {
        "points": rng.uniform(1, 3, (points, dimensions)),
        "pressure": number + rng.random(points),
        "velocity": 100 * rng.normal(size=(points, 2)),
        "speed": np.float64(number),
        "cells": CELLS,
    }


def write_npz(folder: Path, counts: dict[str, tuple[int, ...]]) -> None:
    """Write samples with these numbers of points into subfolders; '' is the folder itself."""
    number = 0
    for split, sizes in counts.items():
        (folder / split).mkdir(parents=True, exist_ok=True)
        for size in sizes:
            np.savez(folder / split / f"run_{number}.npz", **sample(number, size))
            number += 1


def write_h5(path: Path, groups: dict[str, int]) -> None:
    """Write one file with samples of these numbers of points in these groups."""
    with h5py.File(path, "w") as file:
        for number, (group, size) in enumerate(groups.items()):
            for name, array in sample(number, size).items():
                file[f"{group}/{name}"] = array

"""Small printed parts as files: blocks of hexahedra, some with a hanging layer, and smooth fields of their places."""

from pathlib import Path

import numpy as np

from data_pipeline.additive.case import FinalCase, SeriesCase, write_case
from data_pipeline.additive.graph import edges
from data_pipeline.additive.lattice import CORNERS

SIZE = 2.4  # mm, of the larger elements


def block(across: int, high: int, fine: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes [N, 3] in mm and elements [M, 8] of a block of cubes, with `fine` ones of half the size on top."""
    boxes = [(i, j, k, 1.0) for i in range(across) for j in range(across) for k in range(high)]
    if fine:
        boxes = [box for box in boxes if box[2] < high - 1]
        boxes += [
            (i / 2, j / 2, high - 1 + k / 2, 0.5)
            for i in range(2 * across)
            for j in range(2 * across)
            for k in range(2)
        ]
    origins, sizes = np.array([box[:3] for box in boxes]), np.array([box[3] for box in boxes])
    corners = origins[:, None] + CORNERS * sizes[:, None, None]
    nodes, numbers = np.unique(corners.reshape(-1, 3), axis=0, return_inverse=True)
    return (nodes * SIZE).astype(np.float32), numbers.reshape(-1, 8)


def fields_of(pos: np.ndarray, top: float, scale: float) -> dict[str, np.ndarray]:
    """Return fields of a part as high as `top`, which bend it by `scale`."""
    bend = scale * (np.square(pos[:, :2] - pos[:, :2].mean(0)).sum(1) / 50 - 0.02) * pos[:, 2] / top
    disp = np.stack([0.1 * bend, -0.1 * bend, bend], axis=1)
    return {"disp": disp, "vmstr": (400 + 900 * np.abs(bend))[:, None], "temp": (25 + 3 * pos[:, 2] / top)[:, None]}


def write_final(data_dir: Path, train: int = 4, test: int = 2) -> None:
    """Write final states in the layout of the published set."""
    for split, numbers in (("train", range(train)), ("test", range(train, train + test))):
        folder = data_dir / "LPBF_FLARE" / split
        folder.mkdir(parents=True)
        for number in numbers:
            pos, elements = block(2 + number % 2, 2, fine=number % 2 == 0)
            fields = fields_of(pos, float(pos[:, 2].max()), 1 + 0.3 * number)
            name = f"case{number:05d}_part_{number}"
            write_case(folder / f"{name}.npz", FinalCase(name, pos, elements, edges(elements), **fields))


def series_case(number: int, across: int, high: int) -> SeriesCase:
    """Return the states of a block after each of its `high` layers."""
    pos, elements = block(across, high, fine=False)
    zmax = SIZE * np.arange(1, high + 1)
    states = []
    for top in zmax:
        active = (pos[:, 2] <= top + 1e-4)[:, None]
        states.append({name: np.where(active, field, 0) for name, field in fields_of(pos, top, 1 + number).items()})
    fields = {name: np.stack([state[name] for state in states]) for name in states[0]}
    return SeriesCase(f"part_{number}", pos, elements, edges(elements), zmax, 10.0 * np.arange(high), **fields)


def write_series(folder: Path, count: int = 6) -> None:
    """Write series of blocks of different widths and heights.

    Of the first six, the largest part of training and that of test have the same size: one program evaluates both.
    """
    folder.mkdir(parents=True)
    for number in range(count):
        case = series_case(number, 1 + (number % 3 == 0), 3 + number % 3)
        write_case(folder / f"{case.name}.npz", case)

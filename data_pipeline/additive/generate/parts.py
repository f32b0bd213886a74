"""Random parts: boxes, cylinders, cones, tubes, profiles, brackets, gears, lattices of pins, bridges, as voxels.

Their heights are bimodal, as those of the public set: about a third reach 60 mm, a third are flat. In the plane they
measure 7 to 60 mm. Every part is connected, and every group of layers stands on what lies below it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from data_pipeline.additive.generate.octree import FINEST, LAYER, Resolution, Voxels, build_mesh, cell_size

SMALLEST, LARGEST = 7.0, 60.0  # mm in the plane
TALLEST, FLATTEST = 60.0, 2.4  # mm
FEWEST_NODES, MOST_NODES = 5_000, 50_000  # of the part, with the finest cells
_TRIES = 1000


@dataclass(frozen=True)
class _Place:
    """Centres of cells: x, y from the middle and z from the plate in mm, and the part's extents in mm."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    size: tuple[float, float, float]

    @property
    def unit(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x and y in [-1, 1], z in [0, 1]."""
        return 2 * self.x / self.size[0], 2 * self.y / self.size[1], self.z / self.size[2]


Shape = Callable[[np.random.Generator, _Place], Bool[np.ndarray, "X Y Z"]]


def random_part(seed: int, index: int, resolution: Resolution) -> tuple[str, Voxels]:
    """Return the kind and the voxels of part `index`: the first draw of a size between the limits that can be built."""
    rng = np.random.default_rng([seed, index])
    for _ in range(_TRIES):
        kind = str(rng.choice(list(SHAPES)))
        size = _extents(rng)
        state = int(rng.integers(2**63))
        voxels = _voxels(kind, size, state, FINEST)
        if voxels is None or not FEWEST_NODES <= _nodes(voxels, FINEST) <= MOST_NODES:
            continue
        if resolution != FINEST:
            voxels = _voxels(kind, size, state, resolution)
        if voxels is not None:
            return kind, voxels
    raise ArithmeticError(f"no part of seed {seed}, index {index} in {_TRIES} draws")


def _extents(rng: np.random.Generator) -> tuple[float, float, float]:
    sides = np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST), 2))
    if rng.random() < 0.25:
        sides[1] = sides[0]
    kind = rng.random()
    height = TALLEST if kind < 0.33 else rng.uniform(FLATTEST, 8.0) if kind < 0.66 else rng.uniform(8.0, TALLEST)
    return float(sides[0]), float(sides[1]), max(1, round(height / LAYER)) * LAYER


def _voxels(kind: str, size: tuple[float, float, float], state: int, resolution: Resolution) -> Voxels | None:
    """Return the voxels of a shape, None where they cannot be built."""
    cell = cell_size(size[0], size[1], resolution)
    counts = [max(1, round(extent / step)) for extent, step in zip(size, cell, strict=True)]
    x, y, z = ((np.arange(count) + 0.5) * step for count, step in zip(counts, cell, strict=True))
    place = _Place(*np.meshgrid(x - size[0] / 2, y - size[1] / 2, z, indexing="ij"), size)
    filled = SHAPES[kind](np.random.default_rng(state), place)
    return Voxels(filled, cell) if _can_be_built(filled, resolution.layers_per_group) else None


def _can_be_built(filled: np.ndarray, layers: int) -> bool:
    """Return whether the bounding box is filled and every part of each group stands, through others, on the plate."""
    full_box = all(filled.any(axis=axes)[[0, -1]].all() for axes in ((1, 2), (0, 2), (0, 1)))
    if not full_box:
        return False
    for top in range(layers, filled.shape[2] + layers, layers):
        labels, count = ndimage.label(filled[:, :, :top])
        standing = np.unique(labels[:, :, 0])
        if len(standing[standing > 0]) != count:
            return False
    return count == 1


def _nodes(voxels: Voxels, resolution: Resolution) -> int:
    body = build_mesh(voxels, resolution)
    return len(np.unique(body.elements[body.group >= 0]))


def _box(rng: np.random.Generator, at: _Place) -> np.ndarray:
    return np.ones(at.x.shape, bool)


def _steps(rng: np.random.Generator, at: _Place) -> np.ndarray:
    """Return a staircase: the height falls along x."""
    u, _, w = at.unit
    count = int(rng.integers(2, 5))
    return w <= 1.0 - np.floor((u + 1) / 2 * count) / count * rng.uniform(0.6, 1.0)


def _cylinder(rng: np.random.Generator, at: _Place) -> np.ndarray:
    u, v, _ = at.unit
    return u**2 + v**2 <= 1.0


def _lying_cylinder(rng: np.random.Generator, at: _Place) -> np.ndarray:
    """Return a cylinder along x or y, flattened below so that it stands."""
    u, v, w = at.unit
    across = u if rng.random() < 0.5 else v
    cut = rng.uniform(0.15, 0.4)
    return across**2 + ((w + cut) / (1 + cut) * 2 - 1.0) ** 2 <= 1.0


def _cone(rng: np.random.Generator, at: _Place) -> np.ndarray:
    """Return a cone that grows narrower upwards, or wider by at most 45 degrees."""
    u, v, w = at.unit
    top = rng.uniform(0.2, 0.9)
    lean = min(1.0 - top, 2.0 * at.size[2] / max(at.size[0], at.size[1]))
    radius = 1.0 - lean * (w if rng.random() < 0.6 else 1.0 - w)
    return u**2 + v**2 <= radius**2


def _tube(rng: np.random.Generator, at: _Place) -> np.ndarray:
    u, v, _ = at.unit
    return (u**2 + v**2 <= 1.0) & (u**2 + v**2 >= rng.uniform(0.4, 0.85) ** 2)


def _profile(rng: np.random.Generator, at: _Place) -> np.ndarray:
    """Return an upright L, T, U or H profile with walls of one thickness."""
    u, v, _ = at.unit
    wall = rng.uniform(0.15, 0.45)
    left, right, front, middle = u < 2 * wall - 1, u > 1 - 2 * wall, v < 2 * wall - 1, np.abs(u) < wall
    beam = np.abs(v) < wall
    return [left | front, middle | front, left | right | front, left | right | beam][int(rng.integers(4))]


def _lying_profile(rng: np.random.Generator, at: _Place) -> np.ndarray:
    """Return a lying L, U or T profile along y: a base with one or two walls, or one in the middle."""
    u, _, w = at.unit
    wall, base = rng.uniform(0.15, 0.4), rng.uniform(0.12, 0.4)
    left, right, middle = u < 2 * wall - 1, u > 1 - 2 * wall, np.abs(u) < wall
    return (w <= base) | [left, left | right, middle][int(rng.integers(3))]


def _bracket(rng: np.random.Generator, at: _Place) -> np.ndarray:
    """Return an angle bracket with holes through its base and its wall."""
    u, _, w = at.unit
    wall, base = rng.uniform(0.2, 0.4), rng.uniform(0.15, 0.35)
    solid = (u < 2 * wall - 1) | (w <= base)
    radius = rng.uniform(0.12, 0.22) * min(at.size[0], at.size[1])
    across = np.hypot(at.x - at.size[0] / 4, at.y) < radius
    through = np.hypot(at.y, at.z - 0.65 * at.size[2]) < min(radius, 0.2 * at.size[2])
    return solid & ~(across & (u > 2 * wall - 1)) & ~(through & (w > base))


def _plate_with_holes(rng: np.random.Generator, at: _Place) -> np.ndarray:
    columns, rows = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    pitch = at.size[0] / columns, at.size[1] / rows
    radius = rng.uniform(0.2, 0.38) * min(pitch)
    x = np.mod(at.x + at.size[0] / 2, pitch[0]) - pitch[0] / 2
    y = np.mod(at.y + at.size[1] / 2, pitch[1]) - pitch[1] / 2
    return np.hypot(x, y) >= radius


def _gear(rng: np.random.Generator, at: _Place) -> np.ndarray:
    u, v, _ = at.unit
    teeth = 4 * int(rng.integers(2, 6))
    depth, bore = rng.uniform(0.1, 0.25), rng.uniform(0.0, 0.4)
    radius = 1.0 - depth * (np.cos(teeth * np.arctan2(v, u)) < rng.uniform(-0.4, 0.2))
    distance = np.hypot(u, v)
    return (distance <= radius) & (distance >= bore)


def _pins(rng: np.random.Generator, at: _Place) -> np.ndarray:
    """Return a base plate with upright pins, and a plate on top of them in half of the cases."""
    count = int(rng.integers(2, 5))
    pitch = at.size[0] / count, at.size[1] / count
    x = np.mod(at.x + at.size[0] / 2, pitch[0]) - pitch[0] / 2
    y = np.mod(at.y + at.size[1] / 2, pitch[1]) - pitch[1] / 2
    pins = np.hypot(x / pitch[0], y / pitch[1]) < rng.uniform(0.25, 0.42)
    w = at.unit[2]
    return pins | (w <= rng.uniform(0.1, 0.3)) | ((w >= 0.85) & (rng.random() < 0.5))


def _bridge(rng: np.random.Generator, at: _Place) -> np.ndarray:
    """Return two piers with a deck on them, which is arched in half of the cases."""
    u, _, w = at.unit
    pier, deck = rng.uniform(0.2, 0.5), rng.uniform(0.15, 0.4)
    inner = 1.0 - pier
    arch = (1.0 - deck) * (np.sqrt(np.clip(1.0 - (u / inner) ** 2, 0.0, 1.0)) if rng.random() < 0.5 else 1.0)
    return (np.abs(u) > inner) | (w > arch)


def _shell(rng: np.random.Generator, at: _Place) -> np.ndarray:
    """Return an open container: a floor and walls."""
    wall, floor = rng.uniform(1.5, 5.0), rng.uniform(1.2, 4.0)
    inside = (np.abs(at.x) < at.size[0] / 2 - wall) & (np.abs(at.y) < at.size[1] / 2 - wall) & (at.z > floor)
    return ~inside


def _stacked(rng: np.random.Generator, at: _Place) -> np.ndarray:
    """Return a base with a boss on it, each round or square."""
    u, v, w = at.unit
    share, width = rng.uniform(0.15, 0.6), rng.uniform(0.25, 0.7)
    du, dv = rng.uniform(-(1 - width), 1 - width, 2)
    round_base, round_boss = rng.random(2) < 0.5
    base = (u**2 + v**2 <= 1.0) if round_base else np.ones(u.shape, bool)
    boss = (
        (u - 0.5 * du) ** 2 + (v - 0.5 * dv) ** 2 <= width**2
        if round_boss
        else (np.abs(u - du) <= width) & (np.abs(v - dv) <= width)
    )
    return np.where(w <= share, base, boss)


SHAPES: dict[str, Shape] = {
    "box": _box,
    "steps": _steps,
    "cylinder": _cylinder,
    "lying_cylinder": _lying_cylinder,
    "cone": _cone,
    "tube": _tube,
    "profile": _profile,
    "lying_profile": _lying_profile,
    "bracket": _bracket,
    "plate_with_holes": _plate_with_holes,
    "gear": _gear,
    "pins": _pins,
    "bridge": _bridge,
    "shell": _shell,
    "stacked": _stacked,
}

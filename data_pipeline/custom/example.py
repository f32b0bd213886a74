"""Example data in the formats of a user's own files: `python -m data_pipeline.custom.example --out=data/ellipses`.

The exact potential flow around an ellipse, or with `--shape=airfoil` a cambered airfoil with lift, in a stream of speed
1 at an angle (Joukowski's map of the flow around a circle), on triangle meshes of different sizes. A sample has
`points` [N, 2], `cells` [F, 3], the `angle` of the stream in radians, and the fields `pressure` (the pressure
coefficient) [N] and `velocity` [N, 2].
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from jaxtyping import Float, Int

from data_pipeline.custom.writers import named_arrays, write_fields, write_group
from data_pipeline.errors import DataError
from data_pipeline.files import matching
from data_pipeline.seeds import LARGEST_SEED
from runtime.command import Parser, integer, sentence

FORMATS = ("npz", "h5", "vtu")
# Joukowski's map has its critical point so far inside the circle: the trailing edge is round, and no speed infinite.
_ROUNDING = 0.95


class Flow(NamedTuple):
    """The flow around a circle and the square of its map: `z = ζ + shift / ζ`; the circulation is clockwise."""

    radius: float
    shift: float
    angle: float
    centre: complex = 0.0
    circulation: float = 0.0


def ellipse(length: float, height: float, angle: float) -> Flow:
    """Return the flow without circulation around an ellipse of these semi-axes in a stream at `angle` (radians)."""
    return Flow((length + height) / 2, (length**2 - height**2) / 4, angle)


def airfoil(thickness: float, camber: float, angle: float) -> Flow:
    """Return the flow around an airfoil of chord about 2 whose circulation puts a stagnation point at its tail."""
    half = 0.5  # of the distance between the ends of the mapped segment
    centre = half * complex(-thickness, camber)
    radius = abs(half - centre)
    circulation = 4 * np.pi * radius * np.sin(angle + np.arcsin(centre.imag / radius))
    return Flow(radius, (_ROUNDING * half) ** 2, angle, centre, circulation)


def random_ellipse(rng: np.random.Generator) -> Flow:
    """Return an ellipse of semi-axes up to 1, and a stream of at most 20 degrees."""
    length = rng.uniform(0.5, 1.0)
    return ellipse(length, length * rng.uniform(0.3, 1.0), np.deg2rad(rng.uniform(-20.0, 20.0)))


def random_airfoil(rng: np.random.Generator) -> Flow:
    """Return an airfoil of random thickness and camber, and a stream of at most 10 degrees."""
    return airfoil(rng.uniform(0.1, 0.25), rng.uniform(0.0, 0.2), np.deg2rad(rng.uniform(-10.0, 10.0)))


SHAPES = {"ellipse": random_ellipse, "airfoil": random_airfoil}


def ring_mesh(around: int, outwards: int) -> tuple[Float[np.ndarray, "N 2"], Int[np.ndarray, "F 3"]]:
    """Return radii relative to the inner circle, from 1 to 4, and angles of a ring of points, and its triangles."""
    radii = 4.0 ** (np.linspace(0.0, 1.0, outwards) ** 1.3)
    angles = 2 * np.pi * np.arange(around) / around
    ring = np.stack(np.meshgrid(radii, angles, indexing="ij"), axis=-1).reshape(-1, 2)
    i, j = np.meshgrid(np.arange(outwards - 1), np.arange(around), indexing="ij")
    corners = [(i + di) * around + (j + dj) % around for di, dj in ((0, 0), (1, 0), (1, 1), (0, 1))]
    a, b, c, d = (corner.ravel() for corner in corners)
    return ring, np.concatenate([np.stack([a, b, c], axis=-1), np.stack([a, c, d], axis=-1)])


def solve(flow: Flow, ring: Float[np.ndarray, "N 2"]) -> dict[str, Float[np.ndarray, "N *C"]]:
    """Return points, pressure coefficient and velocity at the images of the points of a ring."""
    around = flow.radius * ring[:, 0] * np.exp(1j * ring[:, 1])
    circle = flow.centre + around
    stream = np.exp(1j * flow.angle)
    vortex = 1j * flow.circulation / (2 * np.pi * around)
    velocity = (stream.conj() - flow.radius**2 * stream / around**2 + vortex) / (1 - flow.shift / circle**2)
    place = circle + flow.shift / circle
    fields = {
        "points": np.stack([place.real, place.imag], axis=-1),
        "pressure": 1 - np.abs(velocity) ** 2,
        "velocity": np.stack([velocity.real, -velocity.imag], axis=-1),
    }
    return {name: values.astype(np.float32) for name, values in fields.items()}


def write_example(out: Path, num: int, kind: str, seed: int = 0, shape: str = "ellipse") -> Path:
    """Write `num` samples, a sixth of them tests, into folders of `out`, or for h5 into one file; return its path."""
    if kind == "h5":
        out.mkdir(parents=True, exist_ok=True)
        path = out / f"{shape}s.h5"
        with h5py.File(path, "w") as file:
            _write_all(
                num, seed, shape, lambda name, *sample: write_group(file.create_group(name), named_arrays(*sample))
            )
        return path
    wanted = {out / f"{name}.{kind}" for name in _names(num, shape)}
    other = next((path for path in matching(out, "*/*") if path not in wanted), None)
    if other is not None:
        raise DataError(f"{out} holds other samples, such as {other.relative_to(out)}; name a new folder")
    _write_all(num, seed, shape, lambda name, *sample: write_fields(out / f"{name}.{kind}", *sample))
    return out


def _write_all(num: int, seed: int, shape: str, write: Callable[..., None]) -> None:
    for number, name in enumerate(_names(num, shape)):
        # A stream of random numbers for each, so that a sample does not depend on how many there are.
        rng = np.random.default_rng((seed, number))
        flow = SHAPES[shape](rng)
        ring, triangles = ring_mesh(int(rng.integers(32, 65)), int(rng.integers(12, 21)))
        fields = solve(flow, ring)
        points = fields.pop("points")
        fields["angle"] = np.array(flow.angle, np.float32)
        write(name, points, (("triangle", triangles),), fields)


def _names(num: int, shape: str) -> list[str]:
    """Return the names of all samples below their folder, the last sixth of which test."""
    trained = num - max(1, num // 6)
    return [f"{'train' if number < trained else 'test'}/{shape}_{number:04d}" for number in range(num)]


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status: 0, or 2 for what it refuses."""
    parser = Parser(prog="python -m data_pipeline.custom.example", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument(
        "--shape", choices=SHAPES, default="ellipse", help="what is in the stream (default: %(default)s)"
    )
    parser.add_argument("--num", type=integer(2, 10**6), default=240, help="number of samples (default: %(default)s)")
    parser.add_argument("--format", choices=FORMATS, default="npz", help="vtu needs pyvista (default: %(default)s)")
    parser.add_argument(
        "--seed", type=integer(0, LARGEST_SEED), default=0, help="of the random flows (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    try:
        path = write_example(options.out, options.num, options.format, options.seed, options.shape)
        print(f"{options.num} samples in {path}")
    except (ValueError, OSError) as error:
        print(f"error: {sentence(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Example data in the formats of a user's own files: `python -m data_pipeline.custom.example --out=data/ellipses`.

The exact potential flow around an ellipse in a stream of speed 1 at an angle (Joukowski's map of the flow around a
circle), on triangle meshes of different sizes. A sample has `points` [N, 2], `cells` [F, 3], the `angle` of the stream
in radians, and the fields `pressure` (the pressure coefficient) [N] and `velocity` [N, 2].
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from jaxtyping import Float, Int

from data_pipeline.command import Parser, integer
from data_pipeline.custom.writers import named_arrays, write_fields, write_group
from data_pipeline.seeds import LARGEST_SEED

FORMATS = ("npz", "h5", "vtu")


class Flow(NamedTuple):
    """Semi-axes of the ellipse and angle of the stream."""

    length: float
    height: float
    angle: float


def random_flow(rng: np.random.Generator) -> Flow:
    """Return an ellipse of semi-axes up to 1, and a stream of at most 20 degrees."""
    length = rng.uniform(0.5, 1.0)
    return Flow(length, length * rng.uniform(0.3, 1.0), np.deg2rad(rng.uniform(-20.0, 20.0)))


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
    radius, shift = (flow.length + flow.height) / 2, (flow.length**2 - flow.height**2) / 4
    circle = radius * ring[:, 0] * np.exp(1j * ring[:, 1])
    stream = np.exp(1j * flow.angle)
    velocity = (stream.conj() - radius**2 * stream / circle**2) / (1 - shift / circle**2)
    place = circle + shift / circle
    fields = {
        "points": np.stack([place.real, place.imag], axis=-1),
        "pressure": 1 - np.abs(velocity) ** 2,
        "velocity": np.stack([velocity.real, -velocity.imag], axis=-1),
    }
    return {name: values.astype(np.float32) for name, values in fields.items()}


def write_example(out: Path, num: int, kind: str, seed: int = 0) -> Path:
    """Write `num` samples, a sixth of them tests, into folders of `out`, or for h5 into one file; return its path."""
    if kind == "h5":
        out.mkdir(parents=True, exist_ok=True)
        with h5py.File(out / "ellipses.h5", "w") as file:
            _write_all(num, seed, lambda name, *sample: write_group(file.create_group(name), named_arrays(*sample)))
        return out / "ellipses.h5"
    _write_all(num, seed, lambda name, *sample: write_fields(out / f"{name}.{kind}", *sample))
    return out


def _write_all(num: int, seed: int, write: Callable[..., None]) -> None:
    tests = max(1, num // 6)
    for number in range(num):
        # A stream of random numbers for each, so that a sample does not depend on how many there are.
        rng = np.random.default_rng((seed, number))
        flow = random_flow(rng)
        ring, triangles = ring_mesh(int(rng.integers(32, 65)), int(rng.integers(12, 21)))
        fields = solve(flow, ring)
        split = "train" if number < num - tests else "test"
        points = fields.pop("points")
        fields["angle"] = np.array(flow.angle, np.float32)
        write(f"{split}/ellipse_{number:04d}", points, (("triangle", triangles),), fields)


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status: 0, or 2 for what it refuses."""
    parser = Parser(prog="python -m data_pipeline.custom.example", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--num", type=integer(2, 10**6), default=240, help="number of samples (default: %(default)s)")
    parser.add_argument("--format", choices=FORMATS, default="npz", help="vtu needs pyvista (default: %(default)s)")
    parser.add_argument(
        "--seed", type=integer(0, LARGEST_SEED), default=0, help="of the random flows (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    try:
        print(f"{options.num} samples in {write_example(options.out, options.num, options.format, options.seed)}")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

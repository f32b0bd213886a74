"""A block of steel forged by a die of random shape, in the file of the Geo-FNO benchmark (arXiv 2207.05209).

The block is 50 mm long and 15 mm high, clamped below; the die comes down at 3 m/s for a millisecond. The steel has
Young's modulus 200 GPa, Poisson's ratio 0.3 and a yield stress of 70 MPa without hardening. The solver is described in
`forging`. The lower side of the die is a random cubic spline, some 3 mm from its lowest to its highest point, of which
the lowest touches the block at the start.

The density is four times that of steel, which halves the number of steps. Inertia stays without effect: twice the
kinetic energy density at the speed of the die is 0.3 MPa, against a yield stress of 70 MPa.
"""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float64
from scipy.interpolate import CubicSpline
from scipy.io import savemat

from data_pipeline.generate import forging
from data_pipeline.generate.chunks import Samples
from data_pipeline.generate.generator import Generator, Settings

STEEL = forging.Material(young=200e3, poisson=0.3, yield_stress=70.0, density=4 * 7.85e-9)
LENGTH, HEIGHT, RIGHT, TOP = 50.0, 15.0, 0.35, 14.9
SPEED, DURATION, FRAMES = 3e3, 1e-3, 20
GAP, KNOTS = 3.0, 8
# Share of the largest stable time step of the undeformed grid; elements under the die become half as high.
_COURANT = 0.4
_FILE = "plas_N987_T20.mat"


def material_nodes(resolution: int) -> Float64[np.ndarray, "2 N M"]:
    """Return the first positions of the nodes, `resolution` from right to left and 3/10 of that downwards."""
    i, j = np.mgrid[0:resolution, 0 : 3 * (resolution - 1) // 10 + 1]
    spacing = LENGTH / (resolution - 1)
    return np.stack([RIGHT - spacing * i, TOP - spacing * j])


def die_shape(seed: int, index: int, x: Float64[np.ndarray, "N"]) -> tuple[np.ndarray, np.ndarray]:
    """Return the gap between die and block at time 0 and its slope, at positions x; the least gap is zero."""
    heights = np.random.default_rng([seed, index]).uniform(0.0, GAP, KNOTS)
    spline = CubicSpline(np.linspace(RIGHT - LENGTH, RIGHT, KNOTS), heights)
    gap = spline(x)
    return gap - gap.min(), spline(x, 1)


def time_steps(resolution: int) -> int:
    """Return the number of time steps between two of the stored times."""
    longest = _COURANT * LENGTH / (resolution - 1) / STEEL.wave_speed
    return int(np.ceil(DURATION / (FRAMES - 1) / longest))


def _solve(resolution: int, seed: int, indices: range) -> dict[str, np.ndarray]:
    """Press the blocks together; they do not touch."""
    nodes = material_nodes(resolution)
    gaps, slopes = (np.stack(part) for part in zip(*(die_shape(seed, k, nodes[0, :, 0]) for k in indices), strict=True))
    with jax.enable_x64(True):
        die = forging.Die(jnp.asarray(gaps), jnp.asarray(slopes), SPEED)
        moved, _ = forging.press(die, jnp.asarray(nodes), STEEL, DURATION, time_steps(resolution), FRAMES - 1)
        moved = np.asarray(moved)
    if not np.isfinite(moved).all():
        raise ArithmeticError(f"the displacement of a sample among {indices} of seed {seed} is not finite")
    displacement = np.concatenate([np.zeros_like(moved[:, :1]), moved], axis=1)
    fields = np.concatenate([nodes + displacement, displacement], axis=2)
    return {"input": gaps, "output": fields.transpose(0, 3, 4, 1, 2).astype(np.float32)}


def _export(arrays: Samples, folder: Path) -> None:
    savemat(folder / _FILE, {"input": arrays["input"], "output": arrays["output"]})


def _configure(settings: Settings) -> Generator:
    settings.refuse("resolution", "plasticity")
    resolution = settings.resolution or 101
    if resolution < 11 or (resolution - 1) % 10:
        raise ValueError(
            f"resolution, the points along the block, must be a multiple of 10 plus 1 for plasticity, got {resolution}"
        )
    return Generator(
        name="plasticity",
        folder="Geo-FNO/plasticity",
        files=(_FILE,),
        num=987,
        chunk=8,
        solver="explicit dynamics with one-point quadrilaterals, J2 plasticity and kinematic contact, in JAX",
        version=1,
        details={
            "input": "gap in mm between the die and the block at time 0, from right to left, float64",
            "output": "position x, y and displacement x, y in mm as (sample, leftwards, downwards, time, channel), "
            "at 20 equally spaced times of which the first is 0, float32",
            "differences": "die shapes, duration and the meaning of the input are ours; density times four",
        },
        solve=partial(_solve, resolution),
        export=_export,
        settings={"resolution": resolution},
        configure=_configure,
        max_workers=1,
    )


GENERATOR = _configure(Settings())

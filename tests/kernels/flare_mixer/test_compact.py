"""The kernels for few points: results, what is left to XLA between them, and where they do not serve."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from kernels import flare_mixer
from kernels._tiling import Blocks
from kernels.flare_mixer import table
from tests.kernels.flare_mixer.cases import Case, assert_agrees

# Several splits of all kernels, the last of them ragged, and one tile of latents.
BLOCKS = Blocks(points=16, latents=32, programs=12, warps=4)
CASES = [
    Case(points=70, latents=20, masked=True, tiled=True),
    Case(decode_width=24, channels=20, points=41, latents=18, per_sample=True, tiled=True),
    Case(dtype="bfloat16", points=51, width=16, tiled=True),
]


@pytest.fixture
def small_tiles(monkeypatch):
    """Cut few points into several splits."""
    launches = table.KernelBlocks(BLOCKS, BLOCKS, BLOCKS, BLOCKS, compact=True)
    monkeypatch.setattr(table, "OPERATION", table.OPERATION.with_launch(launches))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_agrees_with_reference(case, small_tiles):
    # `heads` keeps these programs apart from those of other tests, which are cached by the shapes of a case.
    assert_agrees(replace(case, heads=3), "pallas", ratio=1e-5 if case.dtype == "float32" else 2e-2)


def lowered(latents: int, points: int = 972) -> str:
    """Return the program of forward and backward for a GPU."""
    shapes = {"q": (8, latents, 8), "k": (2, points, 8, 8), "v": (2, points, 8, 8)}
    arguments = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}

    def step(arguments: dict) -> dict:
        y, pull_back = jax.vjp(lambda x: flare_mixer(**x, implementation="pallas"), arguments)
        return pull_back(y)[0]

    return jax.jit(step).trace(arguments).lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize(("latents", "points", "between"), [(64, 972, False), (65, 972, True), (64, 2049, True)])
def test_nothing_stands_between_the_kernels(latents, points, between):
    """Maxima of operands and the merging of splits are programs of XLA where there are many latents or points."""
    text = lowered(latents, points)
    assert text.count("stablehlo.custom_call @") == 4
    assert ("stablehlo.maximum" in text) == between
    assert ("stablehlo.exponential" in text or "stablehlo.divide" in text) == between

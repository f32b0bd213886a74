"""The kernel of all gradients for Hopper in the interpreter: heads with one exponential and two, ragged sizes."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from kernels import _mosaic
from kernels._implementation import Request
from kernels._statistics import Statistics
from kernels._target import Target
from kernels.flare_mixer import pallas, table
from kernels.flare_mixer.mosaic_gradients import serves
from kernels.flare_mixer.mosaic_launch import MosaicBlocks, PairTiles, Tiles
from kernels.flare_mixer.operands import Operands
from tests.kernels.flare_mixer import cases
from tests.kernels.flare_mixer.cases import Case, inputs, with_broken_padding
from tests.kernels.flare_mixer.test_mosaic import interpreted, outputs_and_gradients
from tests.numerics import assert_close

CASES = [
    # Two splits, of which one has two tiles of points, and a ragged number of latents; one head takes two exponentials.
    Case(dtype="bfloat16", batch=1, points=330, latents=150, width=16, heads=2),
    # Values of another width, and a sample without any point.
    Case(dtype="bfloat16", batch=2, points=70, latents=128, width=8, channels=20, heads=1, masked=True),
]


@interpreted
@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_interpreted_gradients_agree_with_reference(case, monkeypatch):
    small = Tiles(stream=16, programs=6, warpgroups=1)
    blocks = MosaicBlocks(small, small, PairTiles(programs=4))
    monkeypatch.setattr(table, "OPERATION", table.OPERATION.with_launch(blocks))
    arguments = inputs(case)
    if case.heads == 2:
        arguments["q"] = arguments["q"] * jnp.array([1.0, 40.0], jnp.bfloat16)[:, None, None]
    exact = {name: x if name == "mask" else x.astype(jnp.float32) for name, x in arguments.items()}
    expected = outputs_and_gradients("reference", exact, case.scale)
    actual = outputs_and_gradients("mosaic", with_broken_padding(arguments), case.scale)
    for name, value in expected.items():
        for head in range(case.heads):
            axis = 0 if name == "q" else 1 if name == "z" else 2
            parts = (jnp.take(x, head, axis) for x in (actual[name], value))
            assert_close(f"{name} of head {head}", *parts, 2e-2 if head == 0 else 5e-2)


def operands(points: int, latents: int, width: int = 16, dtype: str = "bfloat16") -> Operands:
    """Return the types of operands of one head."""
    rows = jax.ShapeDtypeStruct((1, points, 1, width), dtype)
    return Operands(jax.ShapeDtypeStruct((1, latents, width), dtype), rows, rows)


def test_it_takes_what_fits_a_program():
    """2048 queries of width 16 have 128 of the 227 KiB of shared memory."""
    blocks = PairTiles()
    assert serves(operands(100, 2048), blocks)
    assert not serves(operands(100, 2049), blocks)
    assert serves(operands(100, 512, width=32), blocks)
    assert not serves(operands(100, 2048, width=32), blocks)
    assert not serves(operands(100, 64, dtype="float32"), blocks)
    narrow = operands(100, 64)
    assert not serves(narrow._replace(q_decode=narrow.q, k_decode=narrow.k), blocks)


@interpreted
@pytest.mark.parametrize(
    ("capability", "points", "latents", "expected"),
    [
        ((9, 0), 10**6, 128, "mosaic"),
        ((9, 0), 2**19, 128, "triton"),
        ((9, 0), 2**16, 2048, "triton"),
        ((8, 0), 10**6, 128, "triton"),
        ((10, 0), 10**6, 128, "triton"),
    ],
)
def test_hopper_takes_it_for_many_pairs(capability, points, latents, expected, monkeypatch, taking_over):
    """Of the launches that were measured, where it was faster."""
    assert kernel_taken(capability, points, latents, monkeypatch) == expected


def test_a_jax_that_makes_slower_machine_code_of_it_takes_the_other(monkeypatch):
    monkeypatch.setattr(_mosaic, "NEWEST_JAX_TO_TAKE_OVER", (0, 9))
    assert kernel_taken((9, 0), 10**6, 128, monkeypatch) == "triton"


def kernel_taken(capability, points, latents, monkeypatch):
    """Return whose kernel of the operands' gradients a program for a GPU has."""
    taken = []
    monkeypatch.setattr(pallas, "all_gradients", lambda x, *_, **__: taken.append("mosaic") or x)
    monkeypatch.setattr(pallas, "operand_gradients", lambda x, *_: taken.append("triton") or x)
    selection = table.OPERATION.resolve("pallas", Request("bfloat16", 16, points))
    backend = pallas.PallasBackend(selection.on(Target("cuda", (9, 0))).blocks, Target("cuda", capability))

    def gradients(operands):
        x = operands.k
        return backend.operand_gradients(operands, Statistics(x, x, x), (x, x), x, x, x, scale=1.0)

    jax.eval_shape(gradients, operands(points, latents))
    (kernel,) = taken
    return kernel


@pytest.mark.gpu
@interpreted
def test_it_agrees_with_the_kernel_that_it_takes_the_place_of_on_gpu(monkeypatch, taking_over):
    case = Case(dtype="bfloat16", batch=1, points=2**20, latents=128, width=16, heads=1)
    blocks = table.OPERATION.launch_for("pallas", Request(case.dtype, case.width, case.points)).blocks
    actual = cases.outputs_and_gradients("pallas", inputs(case), case.scale)
    monkeypatch.setattr(table, "OPERATION", table.OPERATION.with_launch(replace(blocks, pairs=None)))
    for name, value in cases.outputs_and_gradients("pallas", inputs(case), case.scale).items():
        assert_close(name, actual[name], value, 1e-2)

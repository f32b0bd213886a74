"""The kernels of wide layers for Hopper: in the interpreter against the reference, on a GPU, and where they run."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels import _mosaic
from kernels._implementation import Request
from kernels._target import Target
from kernels.residual_mlp import mosaic, table
from kernels.residual_mlp.mosaic_launch import MosaicTiling
from kernels.residual_mlp.operands import Branch, Layer, Operands, Structure
from tests.kernels.residual_mlp.cases import BLOCK, Case, apply, assert_agrees, inputs
from tests.numerics import assert_close

interpreted = pytest.mark.skipif(_mosaic.why_unavailable() is not None, reason="needs the interpreter of jax 0.11")
WIDE = {"widths": (128, 128, 128), "dtype": "bfloat16"}
# Three and four tiles of two programs, of which the last is ragged, for two warpgroups with places for three tiles.
CASES = [
    Case(leading=(2, 100), inner=0, branches=2, norm="layer", heads=8, **WIDE),
    replace(BLOCK, leading=(424,), inner=0, projected=128, activation="silu", **WIDE),
    Case(leading=(72,), inner=4, activation="gelu_erf", residual_in=False, residual_out=False, **WIDE),
    Case(leading=(40,), inner=-1, **WIDE),
]


def outputs_and_gradients(case: Case, implementation: str, arrays: dict) -> dict[str, np.ndarray]:
    """Return outputs and all gradients, outside of `jax.jit`, which the interpreter does not enter."""
    outputs, pull_back = jax.vjp(lambda a: apply(case, a, implementation), arrays)
    rng = np.random.default_rng(1)
    cotangents = tuple(jnp.asarray(rng.standard_normal(y.shape).astype(jnp.bfloat16)).astype(y.dtype) for y in outputs)
    leaves, _ = jax.tree.flatten_with_path((outputs, pull_back(cotangents)))
    return {jax.tree_util.keystr(path): np.asarray(leaf, np.float64) for path, leaf in leaves}


@interpreted
@pytest.mark.parametrize("case", CASES, ids=str)
def test_interpreted_kernels_agree_with_reference(case, monkeypatch):
    blocks = table.OPERATION.launch_for("pallas", Request("bf16", 128, 10**6)).blocks
    blocks = replace(blocks, mosaic=MosaicTiling(programs=2, warpgroups=2 if case.branches > 1 else 3))
    monkeypatch.setattr(table, "OPERATION", table.OPERATION.with_launch(blocks))
    monkeypatch.setattr(mosaic, "takes_over", lambda target: True)
    arrays = inputs(case)
    exact = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), arrays)
    expected = outputs_and_gradients(replace(case, dtype="float32", precision="highest"), "reference", exact)
    actual = outputs_and_gradients(case, "pallas", arrays)
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert_close(name, actual[name], value, 2e-2)


def operands(rows: int, width: int = 128, dtype: str = "bfloat16", last: int = 128) -> tuple[Structure, Operands]:
    """Return a branch of two layers, as types."""
    x = jax.ShapeDtypeStruct((rows, width), dtype)
    layers = (Layer(width, width, True, True), Layer(width, last, width == last, False))
    weights = tuple(jax.ShapeDtypeStruct((layer.inputs, layer.outputs), "float32") for layer in layers)
    biases = tuple(jax.ShapeDtypeStruct((layer.outputs,), "float32") for layer in layers)
    return Structure(width, width, (layers,), "silu", False), Operands(x, None, None, (Branch(weights, biases),))


@interpreted
@pytest.mark.parametrize(
    ("changed", "capability", "expected"),
    [
        ({}, (9, 0), True),
        ({"rows": 992}, (9, 0), False),
        ({"rows": 1004}, (9, 0), False),
        ({"width": 64, "last": 64}, (9, 0), False),
        ({"last": 64}, (9, 0), False),
        ({"dtype": "float32"}, (9, 0), False),
        ({}, (8, 0), False),
        ({}, (10, 0), False),
    ],
)
def test_they_take_many_wide_rows_on_hopper(changed, capability, expected, taking_over):
    structure, arrays = operands(**{"rows": 1000, **changed})
    tiling = MosaicTiling(fewest=1000)
    assert mosaic.serves(structure, arrays, tiling, Target("cuda", capability)) == expected
    assert not mosaic.serves(structure, arrays, tiling, Target("cuda", capability, copies=2))


@interpreted
@pytest.mark.parametrize(("rows", "expected"), [(10**6, True), (2**18, False)])
def test_the_table_takes_them_where_they_were_measured(rows, expected, taking_over):
    structure, arrays = operands(rows)
    target = Target("cuda", (9, 0))
    served = table.OPERATION.resolve("pallas", Request("bf16", 128, rows)).on(target)
    plan = table.plan_for(served, structure, arrays, jax.lax.Precision.DEFAULT, target)
    assert (plan.mosaic is not None) == expected


def test_other_jax_and_other_devices_have_other_kernels(monkeypatch):
    structure, arrays = operands(10**6)
    assert not mosaic.serves(structure, arrays, MosaicTiling(), Target("cpu"))
    if _mosaic.why_unavailable() is not None:
        assert not mosaic.serves(structure, arrays, MosaicTiling(), Target("cuda", (9, 0)))
    # A JAX that makes slower machine code of them.
    monkeypatch.setattr(_mosaic, "NEWEST_JAX_TO_TAKE_OVER", (0, 9))
    assert not mosaic.serves(structure, arrays, MosaicTiling(), Target("cuda", (9, 0)))


@pytest.mark.gpu
@interpreted
@pytest.mark.parametrize("rows", [2**19 + 8, 1_000_000])
@pytest.mark.parametrize(
    "case", [Case(branches=2, norm="layer", inner=3, **WIDE), replace(BLOCK, inner=3, projected=128, **WIDE)], ids=str
)
def test_they_agree_with_the_reference_on_gpu(case, rows, taking_over):
    assert_agrees(replace(case, leading=(rows,)), ratio=2e-2)

"""Every implementation against the reference, and the reference against loops over the definition in float64."""

import itertools
from dataclasses import replace

import jax
import numpy as np
import pytest

from kernels import triple_attention
from kernels._triton import triton_available
from tests.kernels.triple_attention.cases import NAMES, Case, assert_agrees, inputs, use_small_tiles
from tests.numerics import assert_close

FLOAT32 = [
    Case(),
    Case(points=1, width=4, channels=4),
    Case(points=5, width=3, channels=20),
    Case(points=97, width=24, channels=16, tiled=True),
    Case(batch=1, points=64, width=16, channels=16, tiled=True),
    Case(points=50, size=500.0, tiled=True),
]
# For kernels, which lay wide heads out in their own way; to XLA the width is a number.
WIDE = [
    Case(batch=1, heads=1, points=40, width=64, channels=64),
    Case(batch=1, heads=1, points=20, width=6, channels=128, tiled=True),
]
HALF = [
    Case(dtype="bfloat16", points=50, width=16, channels=16),
    Case(dtype="bfloat16", points=70, width=12, channels=24, tiled=True),
]
# Larger than the interpreter can run: many splits and tiles with the launches that users get.
ON_GPU = [
    Case(batch=2, points=2048, heads=8, width=4, channels=4),
    Case(batch=2, points=7225, heads=8, width=16, channels=16),
    Case(batch=1, points=40_001, heads=8, width=32, channels=32),
    Case(batch=3, points=5001, heads=4, width=24, channels=40),
    Case(batch=1, points=3001, heads=2, width=64, channels=64),
    Case(batch=1, points=501, heads=1, width=128, channels=128),
]
KERNELS = [
    "pallas",
    pytest.param(
        "triton",
        marks=[pytest.mark.gpu, pytest.mark.skipif(not triton_available(), reason="needs jax-triton and triton")],
    ),
]


@pytest.fixture(autouse=True)
def small_tiles(request, monkeypatch):
    """Cut the work of tiled cases into small parts."""
    case = request.node.callspec.params.get("case") if hasattr(request.node, "callspec") else None
    if case is not None and case.tiled:
        use_small_tiles(monkeypatch)


def test_reference_is_the_definition():
    case = Case(batch=1, points=3, heads=2, width=2, channels=3)
    q1, q2, k1, k2, v = (np.asarray(inputs(case)[name], np.float64) for name in NAMES)
    state = np.zeros((1, 2, 2, 3, 2))
    y = np.zeros(v.shape)
    for n, h, i, j, c in itertools.product(range(3), range(2), range(2), range(3), range(2)):
        state[0, h, i, j, c] += k1[0, n, h, i] * v[0, n, h, j] * k2[0, n, h, c] / 3
    for n, h, i, j, c in itertools.product(range(3), range(2), range(2), range(3), range(2)):
        y[0, n, h, j] += q1[0, n, h, i] * state[0, h, i, j, c] * q2[0, n, h, c]
    actual_y, actual_state = triple_attention(**inputs(case), implementation="reference", return_state=True)
    assert_close("y", actual_y, y, 1e-6)
    assert_close("state", actual_state, state, 1e-6)


@pytest.mark.parametrize("implementation", ["xla", *KERNELS])
@pytest.mark.parametrize("case", FLOAT32, ids=str)
def test_float32_agrees_with_reference(case, implementation):
    assert_agrees(case, implementation, ratio=1e-5)


@pytest.mark.parametrize("implementation", KERNELS)
@pytest.mark.parametrize("case", WIDE, ids=str)
def test_wide_heads_agree_with_reference(case, implementation):
    assert_agrees(case, implementation, ratio=1e-5)


@pytest.mark.parametrize("implementation", ["xla", *KERNELS])
@pytest.mark.parametrize("case", HALF, ids=str)
def test_bfloat16_agrees_with_float32(case, implementation):
    assert_agrees(case, implementation, ratio=2e-2)


def test_float16_runs_in_xla_without_overflow():
    # A product of two operands is 1e6, beyond what float16 can hold, while outputs and state are within its range.
    case = Case(dtype="float16", points=20)
    scales = {"q1": 1000.0, "q2": 1000.0, "k1": 1e-3, "k2": 1e-3, "v": 1.0}
    operands = {name: x * jax.numpy.asarray(scales[name], x.dtype) for name, x in inputs(case).items()}
    assert triple_attention(**operands).dtype == jax.numpy.float16
    y = triple_attention(**{name: x.astype("float32") for name, x in operands.items()}, implementation="reference")
    assert_close("y", triple_attention(**operands), y, 1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("implementation", KERNELS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("case", ON_GPU, ids=str)
def test_default_launches_agree_on_gpu(case, dtype, implementation):
    assert_agrees(replace(case, dtype=dtype), implementation, ratio={"float32": 1e-5, "bfloat16": 2e-2}[dtype])

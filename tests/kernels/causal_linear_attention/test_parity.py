"""Every implementation against the reference: outputs, states and all gradients, over shapes, options and dtypes.

What is computed twice by the kernels is the same to the last bit.
"""

from dataclasses import replace

import numpy as np
import pytest

from tests.kernels.causal_linear_attention.cases import (
    TRITON,
    Case,
    assert_agrees,
    inputs,
    outputs_and_gradients,
    use_small_tiles,
)

ODD = Case(points=97, width=24, channels=40, tiled=True)
FLOAT32 = [
    Case(points=1, width=4, channels=4),
    ODD,
    replace(ODD, size=500.0),  # runs the program of the one before
    Case(batch=1, points=64, width=16, channels=32, tiled=True, state=False),
    Case(batch=1, points=63, width=16, channels=32, tiled=True, paired=False),
    Case(normalize=True, masked=True, points=41, scale=0.3, tiled=True),
]
# For kernels, which lay wide heads out in their own way; to XLA the width is a number.
WIDE = [Case(batch=1, heads=1, points=33, width=128, channels=128)]
BFLOAT16 = [Case(dtype="bfloat16", points=70, width=16, channels=16, masked=True, tiled=True)]
# Larger than the interpreter can run: many splits and tiles with the launches that users get.
ON_GPU = [
    Case(batch=1, points=12_001, heads=8, width=64, channels=64),  # the reference holds N² weights
    Case(batch=1, points=8192, heads=8, width=128, channels=128),
    Case(batch=3, points=5001, heads=4, width=32, channels=24, masked=True),
    Case(batch=2, points=4096, heads=4, width=4, channels=48, normalize=True),
    Case(batch=1, points=3001, heads=2, width=96, channels=128),
]
KERNELS = ["xla", "pallas", TRITON]


@pytest.fixture(autouse=True)
def small_tiles(request, monkeypatch):
    """Cut the work of tiled cases into small parts."""
    case = request.node.callspec.params["case"]
    if case.tiled:
        use_small_tiles(monkeypatch, case.paired)


@pytest.mark.parametrize("implementation", KERNELS)
@pytest.mark.parametrize("case", FLOAT32, ids=str)
def test_float32_agrees_with_reference(case, implementation):
    assert_agrees(case, implementation, ratio=1e-5)


@pytest.mark.parametrize("case", [ODD], ids=str)
def test_kernels_are_deterministic(case):
    first, second = (outputs_and_gradients("pallas", inputs(case), case) for _ in range(2))
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


@pytest.mark.parametrize("implementation", KERNELS[1:])
@pytest.mark.parametrize("case", WIDE, ids=str)
def test_wide_heads_agree_with_reference(case, implementation):
    assert_agrees(case, implementation, ratio=1e-5)


@pytest.mark.parametrize("implementation", KERNELS)
@pytest.mark.parametrize("case", BFLOAT16, ids=str)
def test_bfloat16_agrees_with_float32(case, implementation):
    assert_agrees(case, implementation, ratio=2e-2)


@pytest.mark.gpu
@pytest.mark.parametrize("implementation", ["pallas", TRITON])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("case", ON_GPU, ids=str)
def test_default_launches_agree_on_gpu(case, dtype, implementation):
    ratio = {"float32": 1e-5, "bfloat16": 2e-2}[dtype]
    assert_agrees(replace(case, dtype=dtype), implementation, ratio=ratio)

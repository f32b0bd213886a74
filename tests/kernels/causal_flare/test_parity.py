"""Every implementation against the reference: outputs, states and all gradients, over shapes, masks and dtypes.

What is computed twice by the kernels is the same to the last bit.
"""

from dataclasses import replace

import numpy as np
import pytest

from tests.kernels.causal_flare.cases import Case, assert_agrees, inputs, outputs_and_gradients, use_small_tiles

# Cases of equal shapes and operands run the same program.
MASKED = Case(points=70, latents=18, decode_width=5, scale=0.3, masked=True, tiled=True)
FORGETTING = replace(MASKED, points=71, decay=30.0, resets=True)
FLOAT32 = [
    Case(points=1, latents=1, width=4, channels=4, state=False),
    Case(points=97, latents=20, width=12, channels=20, tiled=True),
    Case(batch=1, points=64, latents=16, width=16, channels=16, tiled=True, state=False, decay=0.5),
    MASKED,
    FORGETTING,
]
# For kernels, which lay wide heads out in their own way; to XLA the width is a number.
WIDE = Case(batch=1, heads=1, points=18, latents=3, width=128, channels=128)
LARGE_LOGITS = replace(MASKED, logits=500.0)
LARGE_AND_FORGOTTEN = replace(FORGETTING, logits=500.0, decay=100.0)
BFLOAT16 = [
    Case(dtype="bfloat16", points=70, latents=18, width=16, channels=16, masked=True, tiled=True),
    # One tile of latents, whose outputs are not summed.
    Case(dtype="bfloat16", points=70, latents=12, width=16, channels=16, masked=True, tiled=True),
    # Gradients of log decays are sums over all earlier tokens, in which errors must not add up.
    Case(dtype="bfloat16", points=70, latents=12, width=16, channels=16, masked=True, tiled=True, decay=30.0),
]
# Larger than the interpreter can run: many splits and tiles with the launches that users get.
ON_GPU = [
    Case(batch=1, points=1000, heads=4, latents=64, width=64, channels=64),
    Case(batch=2, points=500, heads=2, latents=100, width=16, channels=24, masked=True),
    Case(batch=1, points=300, heads=2, latents=300, width=8, channels=8, decode_width=12),
    Case(batch=1, points=257, heads=2, latents=40, width=128, channels=128),
    Case(batch=2, points=1000, heads=2, latents=40, width=32, channels=32, decay=3.0, resets=True, decode_width=32),
]
FAST = ["xla", "pallas"]


@pytest.fixture(autouse=True)
def small_tiles(request, monkeypatch):
    """Cut the work of tiled cases into small parts."""
    if request.node.callspec.params.get("case", LARGE_LOGITS).tiled:
        use_small_tiles(monkeypatch)


@pytest.mark.parametrize("implementation", FAST)
@pytest.mark.parametrize("case", FLOAT32, ids=str)
def test_float32_agrees_with_reference(case, implementation):
    assert_agrees(case, implementation, ratio=1e-5)


@pytest.mark.parametrize("case", [WIDE], ids=str)
def test_wide_heads_agree_with_reference(case):
    assert_agrees(case, "pallas", ratio=1e-5)


@pytest.mark.parametrize("case", [MASKED], ids=str)
def test_kernels_are_deterministic(case):
    first, second = (outputs_and_gradients("pallas", inputs(case), case.scale, case.tiled) for _ in range(2))
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


@pytest.mark.parametrize("implementation", FAST)
@pytest.mark.parametrize("case", [LARGE_LOGITS, LARGE_AND_FORGOTTEN], ids=str)
def test_large_logits_stay_finite_and_accurate(case, implementation):
    # Float32 logits of 500 are themselves only known to 3e-5.
    assert_agrees(case, implementation, ratio=5e-4)


@pytest.mark.parametrize("implementation", FAST)
@pytest.mark.parametrize("case", BFLOAT16, ids=str)
def test_bfloat16_agrees_with_float32(case, implementation):
    assert_agrees(case, implementation, ratio=2e-2)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("case", ON_GPU, ids=str)
def test_default_launches_agree_on_gpu(case, dtype):
    # The sum of a tile's decays, some hundreds, is known to 3e-5 in float32.
    float32 = 5e-5 if case.decay else 1e-5
    # In the gradient of log decays rounding errors of a thousand tokens add up: 1.8e-2 in the interpreter.
    bfloat16 = 3e-2 if case.decay else 2e-2
    assert_agrees(replace(case, dtype=dtype), "pallas", ratio={"float32": float32, "bfloat16": bfloat16}[dtype])

"""The fused kernels against the reference: outputs and all gradients, over depths, widths, flags, norms and dtypes."""

from dataclasses import replace

import pytest

from tests.kernels.residual_mlp.cases import BLOCK, Case, assert_agrees

# Those without inner layers, of one matrix and of two, are among the widths.
DEPTHS = [Case(inner=inner) for inner in (2, 5)]
WIDTHS = [
    Case(leading=(1,), widths=(2, 16, 40), inner=0),
    Case(leading=(3, 5), widths=(40, 16, 1), inner=0),
    Case(leading=(16,), widths=(80, 80, 80), inner=0),
    Case(leading=(2, 2, 9), widths=(8, 100, 8), inner=0),
    Case(leading=(17,), widths=(24, 12, 24), inner=-1),
    Case(leading=(7,), widths=(160, 20, 256), inner=0),
]
FLAGS = [
    Case(residual_in=False),
    Case(residual_out=False, activation="silu"),
    Case(residual_in=False, residual_out=False, activation="gelu_erf"),
    Case(residual_out=False, inner=-1),
]
SURROUNDINGS = [
    Case(norm="layer"),
    Case(norm="rms", norm_bias=False, outer_residual=True, widths=(20, 24, 20)),
    Case(norm="layer", norm_bias=False, inner=-1),
    Case(outer_residual=True, residual_in=False),
    BLOCK,
    replace(BLOCK, projected=8, norm="rms", activation="gelu_erf"),
    Case(projected=40, widths=(16, 24, 1), inner=-1),
    Case(branches=2, norm="layer", widths=(24, 20, 8)),
    Case(branches=3, widths=(16, 16, 16), inner=-1),
]
HEADS = [
    Case(branches=5, norm="layer", widths=(32, 32, 32), inner=-1, heads=4),
    Case(branches=2, widths=(80, 80, 80), inner=0, heads=5),
    Case(branches=2, leading=(3, 7), widths=(160, 20, 160), inner=0, heads=5, precision="highest"),
    Case(branches=2, widths=(30, 30, 30), inner=-1, heads=3),  # heads that no kernel can cut
]
HALF = [
    Case(dtype="bfloat16", widths=(40, 40, 40), inner=3),
    replace(BLOCK, dtype="bfloat16", inner=3),
    Case(dtype="bfloat16", branches=2, norm="rms"),
    Case(dtype="bfloat16", branches=3, norm="layer", widths=(64, 64, 64), inner=-1, heads=8),
]


@pytest.mark.parametrize("case", DEPTHS + WIDTHS + FLAGS + SURROUNDINGS + HEADS, ids=str)
def test_float32_agrees_with_reference(case):
    assert_agrees(case)


@pytest.mark.parametrize("case", HALF, ids=str)
def test_bfloat16_agrees_with_float32(case):
    assert_agrees(case, ratio=1e-2)


@pytest.mark.parametrize("case", HALF, ids=str)
def test_bfloat16_reference_agrees_with_float32(case):
    assert_agrees(case, "reference", ratio=2e-2)

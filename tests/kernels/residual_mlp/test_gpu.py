"""On a GPU: the tilings that users get, at sizes the interpreter cannot run, in every arithmetic."""

from dataclasses import replace

import numpy as np
import pytest

from tests.kernels.residual_mlp.cases import BLOCK, Case, assert_agrees, inputs, outputs_and_gradients

pytestmark = pytest.mark.gpu

BRANCHES = Case(branches=2, norm="layer")
# TF32 keeps 10 bits of a factor and bfloat16 seven; errors grow over six layers and their gradients.
ARITHMETIC = {
    "tf32": ("float32", "default", 5e-3),
    "bf16": ("bfloat16", None, 2e-2),
    "float32": ("float32", "highest", 2e-5),
}


@pytest.mark.parametrize(("dtype", "precision", "ratio"), ARITHMETIC.values(), ids=ARITHMETIC)
@pytest.mark.parametrize("rows", [1, 1944, 3001, 14_450, 200_001])
@pytest.mark.parametrize("case", [BLOCK, BRANCHES], ids=["block", "branches"])
def test_width_64(case, rows, dtype, precision, ratio):
    projected = 64 if case.projected else None
    case = replace(case, leading=(rows,), widths=(64, 64, 64), inner=3, projected=projected)
    assert_agrees(replace(case, dtype=dtype, precision=precision), ratio=ratio)


@pytest.mark.parametrize(("dtype", "precision", "ratio"), list(ARITHMETIC.values())[:2], ids=list(ARITHMETIC)[:2])
@pytest.mark.parametrize(
    "case",
    [
        replace(BLOCK, leading=(1944,), widths=(128, 128, 128), inner=3, projected=128),
        replace(BRANCHES, leading=(40_001,), widths=(128, 128, 128), inner=3),
        replace(BRANCHES, leading=(30_001,), widths=(80, 80, 80), inner=2, activation="silu"),
        replace(BLOCK, leading=(5001,), widths=(256, 256, 256), inner=1, projected=256),
        Case(leading=(2, 972), widths=(2, 64, 64), inner=2, residual_in=False),
        Case(leading=(2, 972), widths=(64, 64, 1), inner=2, norm="rms", norm_bias=False, activation="gelu_erf"),
        Case(leading=(777,), widths=(24, 96, 40), inner=0),
        Case(leading=(1944,), branches=4, norm="layer", widths=(64, 64, 64), inner=-1, heads=8),
        Case(leading=(100_001,), branches=4, norm="layer", widths=(64, 64, 64), inner=-1, heads=8),
        replace(BLOCK, leading=(30_001,), widths=(64, 128, 64), inner=0, projected=64),
    ],
    ids=str,
)
def test_other_widths(case, dtype, precision, ratio):
    assert_agrees(replace(case, dtype=dtype, precision=precision), ratio=ratio)


@pytest.mark.parametrize("rows", [1944, 100_000])
def test_gradients_are_the_same_in_every_run(rows):
    case = replace(BRANCHES, leading=(rows,), widths=(64, 64, 64), inner=3, precision="default")
    arrays = inputs(case)
    first, second = (outputs_and_gradients(case, "pallas", arrays) for _ in range(2))
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


def test_none_chooses_the_kernels_and_agrees():
    assert_agrees(replace(BLOCK, leading=(1944,), widths=(64, 64, 64), projected=64, precision="default"), None, 5e-3)

"""Golden files, evaluated in float64 independently of this package."""

import json
from pathlib import Path

import numpy as np
import pytest

from kernels._triton import triton_available
from tests.golden_checks.kernels import check

GOLDENS = sorted((Path(__file__).parents[2] / "goldens").glob("kernel_triple_*.npz"))
TRITON = pytest.param(
    "triton",
    marks=[pytest.mark.gpu, pytest.mark.skipif(not triton_available(), reason="needs jax-triton and triton")],
)


def read(path):
    with np.load(path) as stored:
        arrays = dict(stored)
    return arrays, json.loads(str(arrays.pop("config")))


def test_goldens_are_there():
    assert len(GOLDENS) >= 2


@pytest.mark.parametrize("implementation", ["reference", "xla", "pallas", TRITON])
@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_outputs_and_gradients(path, implementation):
    comparisons = check(*read(path), implementation)
    assert {c.name for c in comparisons} == {"out", "state", "q1", "q2", "k1", "k2", "v"}
    assert all(c.passed for c in comparisons), comparisons


def test_a_wrong_array_fails():
    arrays, config = read(GOLDENS[0])
    arrays["cotangent/state"] = arrays["cotangent/state"] * (1 + 1e-2)
    arrays["output/out"] = arrays["output/out"] * (1 + 1e-3)
    failed = {c.name for c in check(arrays, config, "xla") if not c.passed}
    assert failed == {"out", "k1", "k2", "v"}

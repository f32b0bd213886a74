"""Golden files, evaluated in float64 independently of this package."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.golden_checks.kernels import check
from tests.kernels.causal_linear_attention.cases import TRITON

GOLDENS = sorted((Path(__file__).parents[2] / "goldens").glob("kernel_causal_linear_*.npz"))


def load(path):
    with np.load(path) as stored:
        arrays = dict(stored)
    return arrays, json.loads(str(arrays.pop("config")))


def test_goldens_are_there():
    assert len(GOLDENS) >= 2


@pytest.mark.parametrize("implementation", ["reference", "xla", "pallas", TRITON])
@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_outputs_states_and_gradients(path, implementation):
    comparisons = check(*load(path), implementation)
    assert {c.name for c in comparisons} == {"out", "final_state", "q", "k", "v"}
    assert all(c.passed for c in comparisons), comparisons


@pytest.mark.parametrize(
    ("key", "name"), [("output/out", "out"), ("output/final_state", "final_state"), ("grad_input/k", "k")]
)
def test_a_wrong_array_fails(key, name):
    arrays, config = load(GOLDENS[0])
    arrays[key] = arrays[key] * (1 + 1e-3)
    assert [c.name for c in check(arrays, config, "xla") if not c.passed] == [name]

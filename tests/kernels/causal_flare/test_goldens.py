"""Golden files, evaluated in float64 independently of this package."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.golden_checks.kernels import check

GOLDENS = sorted((Path(__file__).parents[2] / "goldens").glob("kernel_causal_flare_*.npz"))


def load(path):
    with np.load(path) as stored:
        arrays = dict(stored)
    return arrays, json.loads(str(arrays.pop("config")))


def test_goldens_are_there():
    stems = {path.stem for path in GOLDENS}
    assert stems >= {f"kernel_causal_flare_{name}" for name in ("p4_sepdec", "p5_rampup")}


@pytest.mark.parametrize("implementation", ["reference", "xla", "pallas"])
@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_outputs_states_and_gradients(path, implementation):
    comparisons = check(*load(path), implementation)
    assert {c.name for c in comparisons} >= {"out", "final_mu", "final_d", "final_u", "q", "k", "v"}
    assert all(c.passed for c in comparisons), comparisons


@pytest.mark.parametrize(
    ("key", "name"), [("output/out", "out"), ("output/final_u", "final_u"), ("grad_input/k_dec", "k_dec")]
)
def test_a_wrong_array_fails(key, name):
    arrays, config = load(next(path for path in GOLDENS if "sepdec" in path.stem))
    arrays[key] = arrays[key] * (1 + 1e-3)
    assert [c.name for c in check(arrays, config, "xla") if not c.passed] == [name]

"""Golden files of the gather and of the mixer of FLARE++, evaluated in float64 independently of this package."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.golden_checks.kernels import check

FOLDER = Path(__file__).parents[2] / "goldens"
GOLDENS = sorted([*FOLDER.glob("kernel_gather_*.npz"), *FOLDER.glob("kernel_flarepp_mixer_*.npz")])


def load(path: Path) -> tuple[dict, dict]:
    """Return the arrays of a file and its config."""
    with np.load(path) as stored:
        arrays = dict(stored)
    return arrays, json.loads(str(arrays.pop("config")))


def test_goldens_are_there():
    assert len(GOLDENS) >= 5


@pytest.mark.parametrize("implementation", ["reference", "xla", "pallas"])
@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_outputs_and_gradients(path, implementation):
    arrays, config = load(path)
    comparisons = check(arrays, config, implementation)
    expected = {key.split("/")[1] for key in arrays if key.startswith(("output/", "grad_input/"))}
    assert {c.name for c in comparisons} == expected - {"lse"}  # which is not returned
    assert all(c.passed for c in comparisons), comparisons


@pytest.mark.parametrize("path", [GOLDENS[0], GOLDENS[-1]], ids=lambda path: path.stem)
def test_a_wrong_gradient_fails(path):
    arrays, config = load(path)
    arrays["grad_input/k"] = arrays["grad_input/k"] * (1 + 1e-2)
    assert [c.name for c in check(arrays, config, "xla") if not c.passed] == ["k"]

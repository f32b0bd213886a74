"""Golden files, evaluated in float64 independently of this package."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.golden_checks.kernels import check

GOLDENS = sorted((Path(__file__).parents[2] / "goldens").glob("kernel_flare_mixer_*.npz"))


def test_goldens_are_there():
    assert len(GOLDENS) >= 3


@pytest.mark.parametrize("implementation", ["reference", "xla", "pallas"])
@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_outputs_and_gradients(path, implementation):
    with np.load(path) as stored:
        arrays = dict(stored)
    config = json.loads(str(arrays.pop("config")))
    comparisons = check(arrays, config, implementation)
    assert {c.name for c in comparisons} >= {"y", "z", "q", "k", "v"}
    assert all(c.passed for c in comparisons), comparisons


def test_a_wrong_array_fails():
    with np.load(GOLDENS[0]) as stored:
        arrays = dict(stored)
    config = json.loads(str(arrays.pop("config")))
    arrays["output/y"] = arrays["output/y"] * (1 + 1e-3)
    failed = [c for c in check(arrays, config, "xla") if not c.passed]
    assert [c.name for c in failed] == ["y"]


def test_an_unknown_kernel_is_named():
    with pytest.raises(ValueError, match="kernel/unknown"):
        check({}, {"kind": "kernel/unknown"})

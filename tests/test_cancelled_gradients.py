"""Gradients in golden files whose true value is zero are judged by the size of the terms that cancel in them."""

import json

import numpy as np
import pytest

from tests.check_goldens import check_file
from tests.golden_checks.core import gradient_size

H, M, D, N = 2, 4, 3, 5
RESIDUE = 1e-16  # what float64 leaves of a zero


def write_kernel(tmp_path, change=lambda arrays: None):
    """Write a file of the mixer with one and the same value at all points: gradients of both queries are zero."""
    rng = np.random.default_rng(0)
    q, k = rng.normal(size=(H, M, D)), rng.normal(size=(1, H, N, D))
    v = np.broadcast_to(rng.normal(size=(1, H, 1, D)), k.shape)
    cotangent = rng.normal(size=v.shape)
    scores = np.einsum("hmd,bhnd->bhmn", q, k)
    encode, decode = (np.exp(scores) / np.exp(scores).sum(axis, keepdims=True) for axis in (3, 2))
    arrays = {
        "input/q": q,
        "input/k": k,
        "input/v": v,
        "cotangent/y": cotangent,
        "output/y": v,
        "output/z": np.broadcast_to(v[:, :, :1], (1, H, M, D)),
        "grad_input/q": np.full_like(q, RESIDUE),
        "grad_input/k": np.full_like(k, -RESIDUE),
        "grad_input/v": np.einsum("bhmn,bhml,bhld->bhnd", encode, decode, cotangent),
    }
    change(arrays)
    narrow = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
    np.savez(tmp_path / "mixer.npz", config=json.dumps({"kind": "kernel/flare_mixer", "scale": 1.0}), **narrow)
    return tmp_path / "mixer.npz"


def test_a_gradient_of_zero_passes(tmp_path):
    line, passed = check_file(write_kernel(tmp_path))
    assert passed, line


@pytest.mark.parametrize("name", ["q", "k"])
def test_a_wrong_gradient_of_zero_fails(tmp_path, name):
    def change(arrays):
        arrays[f"grad_input/{name}"].flat[1] = 1e-3

    line, passed = check_file(write_kernel(tmp_path, change))
    assert not passed
    assert f"worst gradient {name}" in line


def test_sizes():
    """Loss 2 · 3: the terms of a gradient for values of size 4 are 6 / 4; one that is none is judged by itself."""
    pairs = [([1.0, -2.0], [3.0]), ([1.0], [1.0])]
    assert gradient_size([1e-9], [4.0], pairs) == 1.5
    assert gradient_size([0.01, -0.1], [4.0], pairs) == 0.1
    assert gradient_size([0.0], [1.0], []) == 0.0

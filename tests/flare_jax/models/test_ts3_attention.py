"""TS3's attention on a structured grid against numpy float64 with central differences, through its golden files."""

import json

import numpy as np
import pytest

from flare_jax.convert import TORCH_MAPPINGS, from_torch, to_torch
from flare_jax.convert.mappings import is_unused
from flare_jax.convert.originals import find_original
from tests.check_goldens import check_file, checker_name
from tests.flare_jax.models import naive_transolver
from tests.flare_jax.models.cases import build_perturbed

ARGS = {"hidden_dim": 4, "num_heads": 2, "num_slices": 3, "H": 3, "W": 2}
C, H, M, D = 4, 2, 3, 2
SHAPES = {
    "wtq": (H, M, D),
    "wt_kv_proj.weight": (2 * C, C, 3, 3),
    "wt_kv_proj.bias": (2 * C,),
    "mix.weights": (H * M, H * M),
    "alphaC": (C,),
    **{f"{norm}.{leaf}": (C,) for norm in ("ln1", "ln2") for leaf in ("weight", "bias")},
    **{f"{norm}.{leaf}": (D,) for norm in ("gn1", "gn2") for leaf in ("weight", "bias")},
    "mha.qkv_proj.weight": (3 * C, C),
    "mha.qkv_proj.bias": (3 * C,),
    "mha.out_proj.weight": (C, C),
    "mha.out_proj.bias": (C,),
    "out_proj.weight": (C, C),
    "out_proj.bias": (C,),
}


def attend(values, qk_norm):
    state = {f"a.{name}": value for name, value in values.items() if name != "x"}
    options = {"num_heads": H, "grid_shape": (ARGS["H"], ARGS["W"]), "qk_norm": qk_norm}
    return naive_transolver.ts3_attention(state, "a", values["x"], options)


def central_difference(values, name, index, cotangent, qk_norm, step=1e-5):
    sums = []
    for sign in (1, -1):
        moved = values[name].copy()
        moved[index] += sign * step
        sums.append((attend({**values, name: moved}, qk_norm) * cotangent).sum())
    return (sums[0] - sums[1]) / (2 * step)


def golden(tmp_path, qk_norm, change=lambda arrays, config: None):
    """Write a file as the goldens' README describes them, after `change(arrays, config)`; return its path."""
    rng = np.random.default_rng(3)
    values = {name: rng.normal(size=shape).astype(np.float32).astype(float) for name, shape in SHAPES.items()}
    values["x"] = rng.normal(size=(2, 6, C)).astype(np.float32).astype(float)
    out = attend(values, qk_norm)
    cotangent = rng.normal(size=out.shape).astype(np.float32)
    arrays = {"input/x": values["x"], "output/out": out, "cotangent": cotangent}
    for name, value in values.items():
        used = not name.startswith("gn")
        gradient = np.array([
            central_difference(values, name, index, cotangent, qk_norm) if used else 0.0
            for index in np.ndindex(value.shape)
        ]).reshape(value.shape)  # fmt: skip
        if name != "x":
            arrays[f"param/{name}"] = value
        arrays[f"grad_input/{name}" if name == "x" else f"grad_param/{name}"] = gradient
    unused = [name for name in SHAPES if name.startswith("gn")]
    config = {"kind": "ts3_attn2d", "args": ARGS | {"qk_norm": qk_norm}, "params_without_grad": unused}
    change(arrays, config)
    narrow = {name: array.astype(np.float32) for name, array in arrays.items()}
    np.savez(tmp_path / "ts3_attn2d_base.npz", config=np.array(json.dumps(config)), **narrow)
    return tmp_path / "ts3_attn2d_base.npz"


def as_the_reference(arrays, config):
    """Divide scores by the number of channels, not of points (docs/original.md, D12), by way of the mixing."""
    config["origin"] = "reference implementation, float32 CPU"
    points = ARGS["H"] * ARGS["W"]
    arrays["param/mix.weights"] = arrays["param/mix.weights"] * C / points
    arrays["grad_param/mix.weights"] = arrays["grad_param/mix.weights"] * points / C


@pytest.mark.parametrize(
    ("qk_norm", "change"),
    [(False, lambda arrays, config: None), (True, lambda arrays, config: None), (True, as_the_reference)],
    ids=["softmax", "unit vectors", "as the reference"],
)
def test_golden_of_the_attention(tmp_path, qk_norm, change):
    line, passed = check_file(golden(tmp_path, qk_norm, change))
    assert passed, line
    assert "output" in line


@pytest.mark.parametrize(
    "key", ["output/out", "grad_param/mix.weights", "grad_param/wt_kv_proj.weight", "grad_input/x"]
)
def test_a_wrong_array_is_found(tmp_path, key):
    def change(arrays, config):
        arrays[key].flat[1] += 0.02 * np.abs(arrays[key]).max()

    line, passed = check_file(golden(tmp_path, False, change))
    assert not passed
    assert key.split("/")[1].split(".")[0] in line


def test_transposed_grids_are_told_apart(tmp_path):
    def change(arrays, config):
        config["args"] = config["args"] | {"H": 2, "W": 3}

    assert not check_file(golden(tmp_path, False, change))[1]


def test_the_configuration_may_name_it_as_kind_or_model():
    assert checker_name({"kind": "ts3_attn2d"}) == checker_name({"model": "ts3_attn2d"}) == "ts3_attn2d"


def test_models_on_a_grid_convert_both_ways():
    _, params = build_perturbed("ts3_uncond_grid")
    state = to_torch("ts3_uncond", params)
    assert state["blocks.0.att.wt_kv_proj.weight"].shape[2:] == (3, 3)
    assert not any(is_unused(name, TORCH_MAPPINGS["ts3_uncond"]) for name in state)
    again = from_torch("ts3_uncond", params, state)
    assert set(again) == set(params)
    assert all((np.asarray(again[name]) == np.asarray(params[name])).all() for name in params)
    arguments = {"in_dim": 3, "out_dim": 1, "hidden_dim": 8, "num_layers": 2, "H": 4, "W": 3}
    assert find_original("ts3_uncond").translate(arguments) == (
        3, 1, {"channel_dim": 8, "num_blocks": 2, "grid_shape": (4, 3)}
    )  # fmt: skip

"""Transolver, Transolver++, TS1 and TS3: stored state dicts, and the constructor arguments of the originals."""

import json
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

from flare_jax.convert import TORCH_MAPPINGS, from_torch, to_torch
from flare_jax.convert.mappings import is_unused
from flare_jax.convert.originals import find_original
from flare_jax.models import build_model
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import split
from tests.flare_jax.models import naive_transolver
from tests.golden_checks.models import check

GOLDENS = Path(__file__).parent.parent.parent / "goldens"
UNUSED = {
    "transolver_base": (),
    "transolver_2d_base": (),
    "transolver_pp_base": ("embedding.bias", "embedding.weight"),
    "ts1_uncond_base": ("blocks.0.att.wtq_bias", "blocks.1.att.wtq_bias"),
    "ts3_uncond_base": tuple(f"blocks.{i}.att.gn{j}.{leaf}" for i in "01" for j in "12" for leaf in ("bias", "weight")),
}


@pytest.mark.parametrize("file", UNUSED)
def test_stored_state_dicts_survive_both_directions(file):
    arrays = np.load(GOLDENS / f"{file}.npz")
    config = json.loads(str(arrays["config"]))
    original = find_original(config["model"])
    in_dim, out_dim, options = original.translate(config["args"])
    template = split(
        nnx.eval_shape(lambda: build_model(original.model_type, in_dim, out_dim, options, rngs=ParameterKeys(0)))
    )[1]
    state = {key.removeprefix("param/"): arrays[key] for key in arrays if key.startswith("param/")}
    again = to_torch(original.model_type, from_torch(original.model_type, template, state))
    assert sorted(set(state) - set(again)) == sorted(UNUSED[file])
    assert all(is_unused(name, TORCH_MAPPINGS[original.model_type]) for name in UNUSED[file])
    assert all((again[key] == state[key]).all() for key in again)


def test_arguments_of_transolver():
    arguments = {
        "space_dim": 2,
        "out_dim": 1,
        "n_layers": 3,
        "n_hidden": 8,
        "n_head": 2,
        "slice_num": 4,
        "H": 5,
        "W": 6,
    }
    sizes = {"channel_dim": 8, "num_blocks": 3, "num_heads": 2, "num_slices": 4, "grid_shape": (5, 6), "fun_dim": 1}
    assert find_original("transolver_2d").translate(arguments) == (2, 1, sizes)
    conditioned = arguments | {"fun_dim": 0, "Time_Input": True, "unified_pos": True, "ref": 4}
    expected = sizes | {
        "fun_dim": 0, "time_input": True, "unified_pos": True, "unified_pos_drop_input": True, "ref": 4
    }  # fmt: skip
    assert find_original("transolver_2d").translate(conditioned)[2] == expected


@pytest.mark.parametrize(("name", "sizes"), [("transolver", (1, 1)), ("lamo", (1, 1)), ("gnot", (2, 1))])
def test_sizes_that_the_originals_have_defaults_for(name, sizes):
    assert find_original(name).translate({"n_hidden": 8}) == (*sizes, {"channel_dim": 8, "fun_dim": 1})


def recorded_transolver(name, arguments, **inputs):
    """Return what the original records for random parameters, as numpy computes it, without the gradients."""
    in_dim, out_dim, options = find_original(name).translate(arguments)
    model = nnx.eval_shape(lambda: build_model("transolver", in_dim, out_dim, options, rngs=ParameterKeys(0)))
    template = split(model)[1]
    generator = np.random.default_rng(0)
    state = to_torch("transolver", {name: 0.3 * generator.standard_normal(p.shape) for name, p in template.items()})
    state = {name: np.float32(value) for name, value in state.items()}
    expected = naive_transolver.forward("transolver", state, **inputs, options=options)
    return {f"param/{name}": value for name, value in state.items()} | {"output/out": expected}


@pytest.mark.parametrize("separate", [True, False])
def test_features_can_be_part_of_x(separate):
    """With x alone the original embeds all its space_dim + fun_dim channels, and then it adds the placeholder."""
    arguments = {"space_dim": 2, "fun_dim": 3, "n_layers": 1, "n_hidden": 8, "n_head": 2, "slice_num": 4}
    x = np.float32(np.random.default_rng(1).standard_normal((2, 9, 5)))
    if separate:
        inputs, effective = {"x": x[..., :2], "fx": x[..., 2:]}, arguments
    else:
        inputs, effective = {"x": x}, arguments | {"space_dim": 5, "fun_dim": 0}
    arrays = recorded_transolver("transolver", effective, **inputs) | {"cotangent": np.ones((2, 9, 1))}
    arrays |= {f"input/{name}": value for name, value in inputs.items()}
    comparisons = check(arrays, {"model": "transolver", "args": arguments})
    assert [c.passed for c in comparisons if c.name == "out"] == [True]


def test_a_recorded_model_with_all_inputs_is_checked():
    """A file with time, function features and unified positions: numpy gives what the original would have recorded."""
    arguments = {
        "space_dim": 2,
        "out_dim": 1,
        "n_layers": 1,
        "n_hidden": 8,
        "n_head": 2,
        "slice_num": 4,
        "H": 3,
        "W": 4,
    }
    arguments |= {"fun_dim": 1, "unified_pos": True, "ref": 2, "Time_Input": True}
    generator = np.random.default_rng(1)
    x, fx, time = (np.float32(generator.standard_normal(shape)) for shape in ((2, 12, 2), (2, 12, 1), (2, 1)))
    arrays = recorded_transolver("transolver_2d", arguments, x=x, fx=fx, time=time)
    arrays |= {"input/x": x, "input/fx": fx, "input/T": time, "cotangent": np.ones((2, 12, 1))}
    comparisons = check(arrays | {"grad_input/x": np.zeros_like(x)}, {"model": "transolver_2d", "args": arguments})
    compared = {c.name: c.passed for c in comparisons}
    assert compared["out"]
    assert compared["input x"]


def test_arguments_of_transolver_plus_plus():
    arguments = {"space_dim": 2, "out_dim": 1, "fun_dim": 0, "ref": 8, "unified_pos": False}
    assert find_original("transolver_pp").translate(arguments) == (2, 1, {"fun_dim": 0})
    with pytest.raises(ValueError, match=r"unified_pos is True, for which .* has no features; set it to False"):
        find_original("transolver_pp").translate(arguments | {"unified_pos": True})


def test_arguments_of_the_precursors():
    arguments = {"in_dim": 2, "out_dim": 1, "hidden_dim": 8}
    assert find_original("ts1_uncond").translate(arguments | {"k_val": 3}) == (2, 1, {"channel_dim": 8})
    assert find_original("ts3_uncond").translate(arguments | {"num_layers": 3})[2] == {
        "channel_dim": 8,
        "num_blocks": 3,
    }

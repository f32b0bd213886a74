"""Conversion from and to PyTorch names and layouts."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flare_jax.convert import TORCH_MAPPINGS, TorchMapping, from_torch, strip_prefixes, to_torch
from flare_jax.convert.mappings import is_unused, torch_path
from flare_jax.convert.originals import find_original
from flare_jax.models import MODELS, build_model
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import split
from tests.flare_jax.models.cases import CASES, build_perturbed

GOLDENS = Path(__file__).parent.parent.parent / "goldens"


def state_of(case):
    _, params = build_perturbed(case)
    model_type = CASES[case].model_type
    return model_type, params, to_torch(model_type, params)


def test_every_model_has_a_mapping():
    # The models of token sequences are not in this registry.
    assert set(TORCH_MAPPINGS) - {"sequence", "trm"} == set(MODELS)


# Of the other models test_command writes recorded and perturbed parameters in both directions.
@pytest.mark.parametrize("file", sorted(GOLDENS.glob("am_mesh_graph_net*.npz")), ids=lambda f: f.stem)
def test_stored_state_dicts_survive_both_directions(file):
    arrays = np.load(file)
    config = json.loads(str(arrays["config"]))
    original = find_original(config["model"], config["args"])
    sizes_and_options = original.translate(config["args"])
    model_type = original.model_type
    template = split(nnx.eval_shape(lambda: build_model(model_type, *sizes_and_options, rngs=ParameterKeys(0))))[1]
    state = {key.removeprefix("param/"): arrays[key] for key in arrays if key.startswith("param/")}
    again = to_torch(model_type, from_torch(model_type, template, state))
    assert set(again) == {name for name in state if not is_unused(name, TORCH_MAPPINGS[model_type])}
    assert all((value == state[name]).all() for name, value in again.items())


def test_names_and_layouts():
    _, params, state = state_of("flare")
    assert (state["blocks.0.mlp.fc1.weight"] == np.asarray(params["blocks.0.mlp.fc1.kernel"]).T).all()
    assert (state["blocks.1.att.latent_q"] == np.asarray(params["blocks.1.att.latent_q"])).all()
    assert (state["blocks.1.norm2.weight"] == np.asarray(params["blocks.1.norm2.scale"])).all()
    assert (state["out_proj.1.fc2.bias"] == np.asarray(params["out_proj.mlp.fc2.bias"])).all()
    _, params, state = state_of("flare_ablations_latent_blocks")
    assert (state["blocks.1.ln2.bias"] == np.asarray(params["blocks.1.norm2.bias"])).all()
    assert (state["out_proj.ln.weight"] == np.asarray(params["out_proj.norm.scale"])).all()
    latent_norm = "blocks.0.att.latent_blocks.1.norm1"
    assert (state[f"{latent_norm}.weight"] == np.asarray(params[f"{latent_norm}.scale"])).all()


@pytest.mark.parametrize(
    ("ours", "theirs"), [((3, 5), (5, 3)), ((7, 3, 5), (5, 3, 7)), ((2, 4, 3, 5), (5, 3, 2, 4))], ids=str
)
def test_kernel_layouts(ours, theirs):
    """Linear [in, out]; convolutions spatial axes, in, out, which PyTorch stores as out, in, spatial axes."""
    kernel = np.arange(np.prod(ours), dtype=np.float32).reshape(ours)
    state = to_torch("flare", {"layer.kernel": kernel})
    assert state["layer.weight"].shape == theirs
    last_but_spatial = (0,) * (len(ours) - 2)
    assert state["layer.weight"][(4, 2, *last_but_spatial)] == kernel[(*last_but_spatial, 2, 4)]
    template = {"layer.kernel": jax.ShapeDtypeStruct(ours, jnp.float32)}
    assert (np.asarray(from_torch("flare", template, state)["layer.kernel"]) == kernel).all()


def test_embeddings_are_copied():
    table = np.arange(6.0).reshape(3, 2)
    assert (to_torch("flare", {"token.embedding": table})["token.weight"] == table).all()


def test_prefixes_are_stripped_any_number_of_times():
    model_type, params, state = state_of("flare")
    wrapped = {f"_orig_mod.module._orig_mod.{name}": value for name, value in state.items()}
    again = from_torch(model_type, params, wrapped)
    assert all((np.asarray(again[name]) == np.asarray(value)).all() for name, value in params.items())


def test_names_that_coincide_without_prefix_are_an_error():
    with pytest.raises(ValueError, match=r"holds 'a.weight' twice"):
        strip_prefixes({"a.weight": 1, "module.a.weight": 2})


def test_dtype_is_that_of_the_template():
    model_type, params, state = state_of("flare")
    doubles = {name: value.astype(np.float64) for name, value in state.items()}
    assert {value.dtype for value in from_torch(model_type, params, doubles).values()} == {jnp.dtype("float32")}


def test_all_problems_are_named_in_one_sentence():
    model_type, params, state = state_of("flare")
    del state["in_proj.fc1.bias"]
    state["head.weight"] = np.zeros(3)
    state["blocks.0.att.latent_q"] = np.zeros((12, 9))
    state["blocks.0.mlp.fc1.weight"] = np.zeros(4)
    with pytest.raises(ValueError, match="does not fit this 'flare' model") as raised:
        from_torch(model_type, params, state)
    message = str(raised.value)
    assert "1 missing keys: in_proj.fc1.bias;" in message
    assert "1 unmatched keys: head.weight;" in message
    assert "2 misshapen keys: blocks.0.att.latent_q (stored (12, 9), model (12, 5))" in message
    assert "blocks.0.mlp.fc1.weight (stored (4,), model (18, 12))" in message
    assert "\n" not in message


def test_long_lists_are_cut():
    model_type, params, _ = state_of("flare")
    with pytest.raises(ValueError, match=f"{len(params)} missing keys: .* and {len(params) - 8} more; build the model"):
        from_torch(model_type, params, {})


def test_unknown_model_type():
    with pytest.raises(ValueError, match=r"model_type is 'flares' .did you mean 'flare'"):
        to_torch("flares", {})


def test_renames_apply_to_whole_leading_parts():
    mapping = TorchMapping(renames=(("blocks.*.norm1", "layers.*.ln_1"), ("head", "fc.0")), unused=("blocks.*.gn1",))
    assert torch_path("blocks.12.norm1.scale", mapping) == "layers.12.ln_1.scale"
    assert torch_path("blocks.12.norm10.scale", mapping) == "blocks.12.norm10.scale"
    assert torch_path("blocks.norm1.scale", mapping) == "blocks.norm1.scale"
    assert torch_path("head.kernel", mapping) == "fc.0.kernel"
    assert torch_path("head", mapping) == "fc.0"
    assert torch_path("overhead.kernel", mapping) == "overhead.kernel"
    assert is_unused("blocks.3.gn1.weight", mapping)
    assert not is_unused("blocks.3.gn2.weight", mapping)


def test_entries_that_the_original_never_uses_are_ignored(monkeypatch):
    _, params, state = state_of("flare")
    mapping = TorchMapping(renames=TORCH_MAPPINGS["flare"].renames, unused=("embedding",))
    monkeypatch.setattr("flare_jax.convert.state_dict.TORCH_MAPPINGS", {"flare": mapping})
    again = from_torch("flare", params, state | {"embedding.weight": np.zeros(3)})
    assert list(again) == list(params)

"""Constructor arguments of the originals of LNO, GNOT, UPT and the looped FLARE models, in our options."""

import numpy as np
import pytest
from flax import nnx

from flare_jax.convert import from_torch, to_torch
from flare_jax.convert.originals import find_original
from flare_jax.models import build_model
from flare_jax.parameter_keys import ParameterKeys
from tests.flare_jax.models.cases import build_perturbed


@pytest.mark.parametrize(
    ("name", "arguments", "in_dim", "out_dim", "options"),
    [
        (
            "lno",
            {"n_block": 2, "n_mode": 6, "n_dim": 8, "n_head": 2, "n_layer": 1, "x_dim": 2, "y1_dim": 5, "y2_dim": 3}
            | {"act": "LeakyReLU", "model_attr": {"time": False}},
            2,
            3,
            {"num_blocks": 2, "num_modes": 6, "channel_dim": 8, "num_heads": 2, "num_layers_mlp": 1}
            | {"fun_dim": 5, "act": "leaky_relu"},
        ),
        (
            "lno",
            {"x_dim": 2, "y1_dim": 2, "y2_dim": 3, "n_dim": 8, "model_attr": {"time": True}},
            2,
            1,
            {"channel_dim": 8, "fun_dim": 2, "act": "gelu"},
        ),
        (
            "gnot",
            {"n_hidden": 16, "n_heads": 2, "space_dim": 2, "out_dim": 1, "unified_pos": True, "ref": None},
            2,
            1,
            {"channel_dim": 16, "num_heads": 2, "fun_dim": 1},
        ),
        (
            "gnot",
            {"space_dim": 3, "out_dim": 1, "fun_dim": 0, "geotype": "structured_2D", "shapelist": [4, 5], "ref": 3}
            | {"unified_pos": True, "time_input": True},
            3,
            1,
            {"fun_dim": 0, "grid_shape": (4, 5), "ref": 3, "time_input": True}
            | {"unified_pos": True, "unified_pos_drop_input": True},
        ),
        (
            "upt",
            {"space_dim": 2, "fun_dim": 3, "out_dim": 1, "n_encoder_layers": 1, "coord_min": [0, 1], "act": "gelu"},
            5,
            1,
            {"space_dim": 2, "num_encoder_blocks": 1, "coord_min": (0.0, 1.0)},
        ),
    ],
)
def test_arguments(name, arguments, in_dim, out_dim, options):
    original = find_original(name)
    assert original.translate(arguments) == (in_dim, out_dim, options)
    nnx.eval_shape(lambda: build_model(original.model_type, in_dim, out_dim, options, rngs=ParameterKeys(0)))


@pytest.mark.parametrize("name", ["transformer", "linformer", "linear"])
@pytest.mark.parametrize(
    ("act", "options"),
    [
        ("relu", {"act": "silu", "in_out_proj_act": "gelu"}),
        ("silu", {"act": "silu"}),
        ("gelu", {"act": "gelu"}),
        (None, {"act": None}),
    ],
)
def test_activations_of_the_transformers(name, act, options):
    """An unknown name means SiLU in the original's blocks and the tanh form of GELU in its projections."""
    arguments = {"in_dim": 2, "out_dim": 1, "backend": name, "act": act}
    assert find_original(name).translate(arguments) == (2, 1, options)


@pytest.mark.parametrize(
    ("model_type", "changes", "names"),
    [
        ("loopy", {}, ["blocks.1.att.k_proj.fc1.weight", "blocks.0.mlp.fc1.bias", "out_proj.1.fc1.weight"]),
        ("unloopy", {}, ["att.latent_q", "att.g_proj.fc1.bias", "att.out_proj.weight", "ffn.fc1.weight"]),
        (
            "unloopy",
            {"shared_att": False, "shared_ffn": False},
            ["blocks.1.att.g_proj.fcs.0.weight", "blocks.0.ffn.fc2.bias", "blocks.1.norm2.weight"],
        ),
        ("perceiverio", {}, ["encoder.latent_q", "encoder.ln.bias", "blocks.1.ln3.weight", "decoder.ln2.weight"]),
        ("perceiverio", {}, ["blocks.0.att.q_proj.weight", "blocks.0.att.kv_proj.weight", "decoder.q_proj.bias"]),
        ("perceiverio", {"cross_attn": False}, ["blocks.0.att.qkv_proj.weight", "blocks.1.ln2.weight"]),
        ("lno", {}, ["attn_blocks.1.self_attn.Wq.bias", "attn_blocks.0.mlp.2.weight", "out_mlp.hidden.0.weight"]),
        ("gnot", {}, ["time_fc.0.weight", "time_fc.2.bias", "blocks.1.moe_mlp2.1.2.weight", "fc2.bias"]),
        ("gnot", {}, ["blocks.0.gatenet.4.bias", "preprocess_z.linear_pre.0.weight", "placeholder"]),
        ("upt", {}, ["encoder.perceiver.perceiver.attn.kv.weight", "decoder.perc.norm1kv.bias"]),
        ("upt", {}, ["encoder.supernode_pooling.message.2.proj.weight", "decoder.pred.1.proj.bias"]),
    ],
)
def test_names(model_type, changes, names):
    _, params = build_perturbed(model_type, **changes)
    state = to_torch(model_type, params)
    assert set(names) <= set(state)
    if model_type == "perceiverio":
        assert not any(name.endswith(("att.q_proj.bias", "kv_proj.bias", "qkv_proj.bias")) for name in state)


def test_shared_parts_are_stored_once():
    _, params = build_perturbed("unloopy")
    state = to_torch("unloopy", params)
    assert {name.split(".")[2] for name in state if name.startswith("blocks.")} == {"norm1", "norm2"}


def test_frequencies_of_upt_are_ignored():
    _, params = build_perturbed("upt")
    state = to_torch("upt", params)
    state |= {f"{part}.pos_embed.omega": np.ones(3) for part in ("encoder.supernode_pooling", "decoder")}
    again = from_torch("upt", params, state)
    assert list(again) == list(params)

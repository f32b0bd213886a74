"""What the original's command line built from its fields: options by hand, parameter counts from the specification."""

import numpy as np
import pytest

from flare_jax.convert.descriptions import abstract_parameters
from flare_jax.convert.original_arguments import ARGUMENTS
from flare_jax.convert.original_config import describe_model, read_original_config
from flare_jax.models import MODELS, build_model
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import count_parameters
from tests.flare_jax.counting import count_of

# With `use_defaults`, which replaces the sizes after the config was written, and for FLARE its published fields.
COUNTS = [
    ({"model_type": "flare", "dataset": "elasticity"}, 592_641),
    ({"model_type": "flare", "dataset": "darcy", "num_latents": 256, "num_heads": 16}, 691_009),
    ({"model_type": "flare_experimental", "dataset": "pipe", "num_latents": 128}, 625_409),
    ({"model_type": "transolver", "dataset": "elasticity"}, 713_665),
    ({"model_type": "transolver", "dataset": "shapenet_car"}, 2_807_361),
    ({"model_type": "transolver", "dataset": "airfoil_steady", "conv2d": True}, 2_810_817),
    ({"model_type": "transolver++", "dataset": "elasticity"}, 591_305 - 512),
    ({"model_type": "lamo", "dataset": "elasticity"}, 1_718_257),
    ({"model_type": "lamo", "dataset": "pipe", "conv2d": True}, 3_757_377),
    ({"model_type": "lno", "dataset": "elasticity"}, 1_831_745),
    ({"model_type": "lno", "dataset": "darcy"}, 762_241),
    ({"model_type": "lno", "dataset": "pipe"}, 1_291_905),
    ({"model_type": "gnot", "dataset": "elasticity"}, 4_870_553),
    ({"model_type": "gnot", "dataset": "darcy"}, 4_904_345),
    ({"model_type": "perceiverio", "dataset": "elasticity"}, 1_864_833),
    ({"model_type": "perceiverio", "dataset": "elasticity", "pcvr_cross_attn": True}, 1_866_881),
]


@pytest.mark.parametrize(("fields", "count"), COUNTS)
def test_parameter_counts_of_the_recipes(fields, count):
    model = describe_model({"use_defaults": True, **fields}, {})

    def build(num_blocks):
        options = {**model.options, "num_blocks": num_blocks}
        return build_model(model.model_type, model.in_dim, model.out_dim, options, rngs=ParameterKeys(0))

    default = MODELS[model.model_type].options()["num_blocks"].default
    assert count_of(build, model.options.get("num_blocks", default)) == count


FIELDS = {"dataset": "darcy", "channel_dim": 32, "num_blocks": 3, "num_heads": 4}


def describe(model_type, state_dict=None, **fields):
    return describe_model({"model_type": model_type, **FIELDS, **fields}, state_dict or {})


def test_fields_of_flare():
    fields = {
        "num_latents": 10, "act": "silu", "rmsnorm": True, "out_proj_norm": False, "num_layers_in_out_proj": 1,
        "attn_scale": "sqrt", "num_layers_k_proj": 0, "num_layers_v_proj": 1, "k_proj_mlp_ratio": 2.0,
        "v_proj_mlp_ratio": 0.5, "num_layers_ffn": 2, "ffn_mlp_ratio": 1.5, "qk_norm": True,
    }  # fmt: skip
    # Fields of other models are ignored, as the original does.
    model = describe("flare", **fields, num_slices=7, mlp_ratio=9.0)
    assert (model.model_type, model.in_dim, model.out_dim) == ("flare", 3, 1)
    assert model.options == {"channel_dim": 32, "num_blocks": 3, "num_heads": 4} | fields


def test_flare_ablations_has_no_fields_of_its_own():
    model = describe("flare_ablations", num_passes=2, kv_proj_mlp_ratio=2.0, num_layers_ffn=1, out_proj_norm=False)
    expected = {"num_latent_blocks": 2, "shared_latents": False, "kv_proj_mlp_ratio": 2.0, "num_layers_ffn": 1}
    assert expected.items() <= model.options.items()
    assert model.options["out_proj_norm"] is False
    assert describe("flare_ablations").options["num_latent_blocks"] == 1  # docs/original.md, D3


def test_gating_that_the_original_drops():
    gated = {"gating": True, "num_layers_gating_proj": 1, "gating_proj_mlp_ratio": 2.0}
    assert "gating" not in describe("unloopy", **gated).options
    with_gate = describe("unloopy", {"blocks.0.att.g_proj.fc1.weight": np.zeros((1, 1))}, **gated)
    assert gated.items() <= with_gate.options.items()


def test_linformer_takes_its_length_from_the_weights():
    model = describe("linformer", {"blocks.0.att.E_k": np.zeros((50, 8))}, linformer_k=8)
    assert (model.options["seq_len"], model.options["k"]) == (50, 8)
    with pytest.raises(ValueError, match="holds no E_k, so it is no linformer"):
        describe("linformer")


def test_structured_models_get_the_grid_of_the_data_set():
    model = describe("transolver", conv2d=True, unified_pos=True, num_slices=9)
    expected = {"grid_shape": (85, 85), "unified_pos": True, "unified_pos_drop_input": True, "num_slices": 9}
    assert expected.items() <= model.options.items()
    assert "grid_shape" not in describe("transolver").options
    gnot = describe("gnot", num_experts=5)
    assert {"grid_shape": (85, 85), "unified_pos": True, "ref": 8, "num_experts": 5}.items() <= gnot.options.items()
    assert "grid_shape" not in describe("gnot", dataset="elasticity").options
    with pytest.raises(ValueError, match="conv2d is set but data set 'elasticity' has no grid"):
        describe("transolver", conv2d=True, dataset="elasticity")


def test_recipes_replace_sizes_only_where_the_original_does_it():
    assert describe("lno", use_defaults=True).options["channel_dim"] == 128
    assert describe("lno").options["channel_dim"] == 32
    assert describe("linear", use_defaults=True).options["channel_dim"] == 32


@pytest.mark.parametrize("model_type", sorted(set(ARGUMENTS) - {"linformer"}))
def test_the_command_lines_own_defaults_build_every_model(model_type):
    assert count_parameters(abstract_parameters(describe(model_type, channel_dim=128, dataset="elasticity"))) > 0


def test_constructor_arguments_themselves():
    arguments = {"space_dim": 2, "fun_dim": 0, "out_dim": 3, "n_layers": 2, "n_hidden": 16, "H": 4, "W": 5}
    model = describe_model({"model": "transolver_2d", "args": arguments}, {})
    assert (model.model_type, model.in_dim, model.out_dim) == ("transolver", 2, 3)
    assert {"num_blocks": 2, "channel_dim": 16, "grid_shape": (4, 5)}.items() <= model.options.items()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"dataset": "darcy"}, "has no field 'model_type'; name the config.yaml"),
        ({"model_type": "flare"}, "has no field 'dataset'"),
        ({"model_type": "flair", "dataset": "darcy"}, r"'flair' of the config is not .* .did you mean 'flare'"),
        ({"model_type": "flare", "dataset": None}, "'dataset' is None but must be a name"),
        ({"model_type": ["flare"], "dataset": "darcy"}, r"'model_type' is \['flare'\] but must be a name"),
        ({"model_type": "flare", "dataset": "cylinder_flow"}, "'cylinder_flow' of the config has no steady models"),
        ({"model": "flair", "args": {}}, "model of the config is 'flair' .did you mean 'flare'"),
        ({"model": "flare", "args": [1]}, "args of the config is .1. but must map names to values"),
        ({"model": "lno", "args": {"y2_dim": 1}}, "'lno' lack 'x_dim'"),
    ],
)
def test_configs_that_describe_no_model(content, message):
    with pytest.raises(ValueError, match=message):
        describe_model(content, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "does not exist"), ("a: [", "cannot be read as YAML"), ("- 1", "holds no fields"), ("", "holds no fields")],
)
def test_files_that_are_no_config(tmp_path, text, message):
    path = tmp_path / "config.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=message) as raised:
        read_original_config(path)
    assert "\n" not in str(raised.value)

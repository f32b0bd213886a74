"""Building models by name: every bad option is one sentence with the value and the remedy."""

import jax
import numpy as np
import pytest
from flax import nnx

from flare_jax.models import FLARE, MODELS, FLAREConfig, Transformer, Unloopy, build_model
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import apply_fn, split
from tests.flare_jax.models.cases import CASES, graph

NEEDED = {"num_latents": 4, "num_blocks": 1, "channel_dim": 16}


def build(model_type="flare", in_dim=2, out_dim=1, dtype="float32", **options):
    """Return the model without values of its parameters."""
    return nnx.eval_shape(
        lambda: build_model(model_type, in_dim, out_dim, NEEDED | options, rngs=ParameterKeys(0), dtype=dtype)
    )


def test_models_are_built_from_names_and_options():
    model = build(num_heads=4)
    assert type(model) is FLARE
    assert model.blocks[0].att.num_heads == 4


def test_a_configuration_builds_the_same_model():
    config = FLAREConfig(**NEEDED, num_heads=4)
    model = nnx.eval_shape(lambda: FLARE(2, 1, config, rngs=ParameterKeys(0)))
    assert nnx.graphdef(model) == nnx.graphdef(build(num_heads=4))


def test_integers_are_accepted_for_floats():
    assert build(ffn_mlp_ratio=2).blocks[0].mlp.fc1.kernel.shape == (16, 32)
    assert build(attn_scale=2).blocks[0].att.scale == 2.0


def test_numbers_of_numpy_are_numbers():
    model = build(num_heads=np.int64(4), rmsnorm=np.bool_(True), ffn_mlp_ratio=np.array(2.0))
    assert model.blocks[0].att.num_heads == 4
    assert model.blocks[0].mlp.fc1.kernel.shape == (16, 32)


def test_entries_describe_their_models():
    for name, entry in MODELS.items():
        assert entry.summary, name
        assert entry.paper.startswith(("arXiv", "no paper")), name
        assert "channel_dim" in entry.options()
        assert not {"dtype", "rngs", "in_dim"} & set(entry.options())


@pytest.mark.parametrize("model_type", MODELS)
def test_defaults(model_type):
    """With the defaults, and a value for each option that has none, the model maps points of any number and width."""
    known = MODELS[model_type].options()
    needed = {name for name, option in known.items() if option.required}
    case = next(case for case in CASES.values() if case.model_type == model_type)
    # All blocks are alike.
    options = {name: case.options[name] for name in needed} | ({"num_blocks": 1} if "num_blocks" in known else {})
    n = case.num_points if case.padding == "refused" and needed else 17
    graphdef, params = split(nnx.eval_shape(lambda: build_model(model_type, 2, 3, options, rngs=ParameterKeys(0))))
    beside = graph(2, n, MODELS[model_type].options()["edge_dim"].default) if case.graph else {}
    y = jax.eval_shape(apply_fn(graphdef), params, jax.ShapeDtypeStruct((2, n, 2), "float32"), **beside)
    assert (y.shape, y.dtype) == ((2, n, 3), "float32")


# Options of mixers and stacks that the cases of another model with the same mixer or stack set.
ELSEWHERE = {
    FLARE: {"gating", "num_layers_gating_proj", "gating_proj_mlp_ratio", "in_out_proj_act"},
    Unloopy: {"num_passes", "shared_latents", "num_latent_blocks", "qk_norm", "in_out_proj_ratio", "in_out_proj_act"},
    Transformer: {"masked"},
}
DROPOUT = {"attn_drop", "proj_drop"}  # tested with the mixers


# In their order: the processes of the suite must collect the same tests.
@pytest.mark.parametrize(
    "constructor", dict.fromkeys(entry.constructor for entry in MODELS.values()), ids=lambda c: c.__name__
)
def test_the_cases_leave_no_option_at_its_default(constructor):
    types = [name for name, entry in MODELS.items() if entry.constructor is constructor]
    cases = [case for case in CASES.values() if case.model_type in types]
    known = {name: option for model_type in types for name, option in MODELS[model_type].options().items()}
    kept = {name for name, o in known.items() if all(c.options.get(name, o.default) == o.default for c in cases)}
    assert kept <= DROPOUT | ELSEWHERE.get(constructor, set())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model_type": "flair"}, "model_type is 'flair' .did you mean 'flare'.. but must be one of 'flare'"),
        ({"num_latent": 3}, "model type 'flare' has no option 'num_latent' .did you mean 'num_latents'"),
        ({"shared_ffn": True}, "model type 'flare' has no option 'shared_ffn'.*its options are channel_dim"),
        ({"in_dim": 0}, "in_dim is 0 but must be an integer of at least 1"),
        ({"out_dim": -1}, "out_dim is -1"),
        ({"num_heads": 3}, "num_heads 3 does not divide channel_dim 16; choose num_heads among 1, 2, 4, 8, 16"),
        ({"channel_dim": 4}, "num_heads is 0"),
        ({"num_blocks": 0}, "num_blocks is 0 but must be an integer of at least 1"),
        ({"num_latents": -3}, "num_latents is -3"),
        (
            {"num_latents": "8"},
            "num_latents is '8' but must be an integer of at least 1",
        ),
        ({"num_blocks": True}, "num_blocks is True but must be an integer"),
        ({"num_heads": 2.0}, "num_heads is 2.0 but must be an integer .* or None"),
        ({"qk_norm": 1}, "qk_norm is 1 but must be True or False"),
        ({"attn_scale": "squared"}, "attn_scale is 'squared' but must be one of 'one', 'sqrt'"),
        ({"attn_scale": float("nan")}, "attn_scale is nan but must be .* a positive number"),
        ({"act": "relu"}, "act is 'relu'"),
        ({"num_layers_ffn": -2}, "num_layers_ffn is -2 but must be an integer of at least -1"),
        ({"num_layers_in_out_proj": -3}, "num_layers_in_out_proj is -3"),
        ({"ffn_mlp_ratio": 0.01}, "ffn_mlp_ratio 0.01 makes a hidden width below 1"),
        ({"dtype": "float8"}, "dtype is 'float8' but must be one of float32, bfloat16"),
        ({"dtype": "int32"}, "dtype is 'int32' but must be one of float32, bfloat16"),
        ({"model_type": "flare_ablations", "kv_proj_mlp_ratio": -1.0}, "kv_proj_mlp_ratio is -1.0"),
        ({"model_type": "flare_ablations", "num_layers_kv_proj": -2}, "num_layers_kv_proj is -2"),
        ({"num_latents": 10**12}, "num_latents is 1000000000000 but must be an integer .* at most 131072"),
        ({"channel_dim": 10**6}, "channel_dim is 1000000 but must be an integer .* at most 65536"),
        ({"num_blocks": 10**5}, "num_blocks is 100000 but must be an integer .* at most 1024"),
        ({"num_layers_k_proj": -1, "k_proj_mlp_ratio": 2.0}, "k_proj_mlp_ratio is 2.0 but has no effect with num_lay"),
        (
            {
                "model_type": "backbone_flarepp_ablations",
                "use_gate": True,
                "q_fixed_norm": False,
                "q_fixed_elementwise_affine": True,
            },
            "q_fixed_elementwise_affine is True but has no effect with q_fixed_norm=False",
        ),
        (
            {"model_type": "backbone_flarepp_ablations", "q_fixed_elementwise_affine": True},
            "q_fixed_elementwise_affine is True but has no effect with use_gate=False",
        ),
        (
            {"model_type": "flare_ablations", "shared_latents": True, "num_latent_blocks": 1},
            "num_latent_blocks is 1 but shared_latents needs 0",
        ),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message) as raised:
        build(**arguments)
    assert "\n" not in str(raised.value)


def test_missing_options():
    with pytest.raises(ValueError, match="model type 'flare' needs the option 'num_latents', which has no default"):
        build_model("flare", 2, 1, {}, rngs=ParameterKeys(0))

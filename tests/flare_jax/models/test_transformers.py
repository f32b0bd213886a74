"""The transformer-like PDE models against a plain numpy version, and what is particular to them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flare_jax.convert import to_torch
from flare_jax.models import build_model
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import apply_fn, count_parameters, split
from tests.flare_jax.models import naive_attention
from tests.flare_jax.models.cases import CASES, build, build_perturbed, points
from tests.flare_jax.models.cases_transformers import CASES as TRANSFORMER_CASES
from tests.flare_jax.models.naive_flare import activation, norm, residual_mlp
from tests.numerics import assert_close


def naive_forward(state, x, model_type, options):
    state = {name: np.asarray(value, np.float64) for name, value in state.items()}
    act = activation(options["in_out_proj_act"] or options["act"])
    x = residual_mlp(state, "in_proj", np.asarray(x, np.float64), act, input_residual=False)
    for i in range(options["num_blocks"]):
        x = naive_attention.block(state, f"blocks.{i}", x, model_type, options)
    return residual_mlp(state, "out_proj.1", norm(state, "out_proj.0", x), act, output_residual=False)


def compare_with_numpy(case, **changes):
    graphdef, params = build_perturbed(case, **changes)
    model_type, options = CASES[case].model_type, CASES[case].options | changes
    expected = naive_forward(to_torch(model_type, params), points(), model_type, options)
    assert_close(case, jax.jit(apply_fn(graphdef))(params, points()), expected, 1e-5)


@pytest.mark.parametrize("case", TRANSFORMER_CASES)
def test_prediction(case):
    compare_with_numpy(case)


@pytest.mark.parametrize(
    ("case", "changes"),
    [
        ("linear", {"kernel": "swiglu", "num_blocks": 1, "norm_q": False, "norm_k": False}),
        ("linear", {"kernel": "softplus", "num_blocks": 1, "norm_q": False}),
        ("linear", {"kernel": "relu_squared", "num_blocks": 1, "norm_k": False}),
        ("linformer", {"k": 7, "seq_len": 11, "act": None, "rmsnorm": False, "num_blocks": 1}),
        ("transformer", {"num_heads": 3, "num_layers_in_out_proj": -1, "num_blocks": 1}),
        ("transformer", {"in_out_proj_act": None, "num_layers_in_out_proj": 1, "num_blocks": 1}),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "-".join(map(str, value.values())),
)
def test_prediction_with_other_options(case, changes):
    compare_with_numpy(case, **changes)


@pytest.mark.parametrize(("model_type", "extra"), [("transformer", 0), ("linear", 0), ("linformer", 2 * 100 * 7)])
def test_sizes_of_the_recipe(model_type, extra):
    """Width 80, 5 heads, 8 blocks, projections with two inner layers."""
    options = {"channel_dim": 80, "num_heads": 5} | ({"seq_len": 100, "k": 7} if extra else {})
    _, params = split(nnx.eval_shape(lambda: build_model(model_type, 2, 1, options, rngs=ParameterKeys(0))))
    square = 80 * 80 + 80
    in_proj, out_proj = 3 * 80 + 3 * square, 2 * 80 + 3 * square + 81
    # Two norms, q, k, v and output, two layers of width 320.
    block = 4 * 80 + 4 * square + 2 * 4 * 80 * 80 + 5 * 80 + extra
    assert count_parameters(params) == in_proj + 8 * block + out_proj


@pytest.mark.parametrize("model_type", ["transformer", "linformer", "linear"])
def test_default_heads_are_16_wide(model_type):
    options = {"seq_len": 20} if model_type == "linformer" else {}
    model = nnx.eval_shape(lambda: build_model(model_type, 2, 1, options, rngs=ParameterKeys(0)))
    assert (len(model.blocks), model.blocks[0].att.num_heads) == (8, 4)


def test_initial_distributions():
    """Linear weights ~ Normal(0, 0.02²), compressing ones ~ Normal(0, 1/D), the linear map of hedgehog the identity."""
    model = build("linformer", channel_dim=64, num_heads=4, seq_len=60, k=50)
    weights = np.concatenate([np.ravel(block.att.E_k[...]) for block in model.blocks])
    assert abs(weights.std() * 4 - 1) < 5 / np.sqrt(2 * weights.size)
    assert (np.asarray(model.blocks[0].att.E_k[...]) != np.asarray(model.blocks[0].att.E_v[...])).all()
    kernel = np.ravel(model.blocks[0].att.qkv_proj.kernel[...])
    assert abs(kernel.std() / 0.02 - 1) < 5 / np.sqrt(2 * kernel.size)
    assert (np.asarray(build("linear_hedgehog").blocks[0].att.kernel.layer.kernel[...]) == np.eye(6)).all()


def test_too_many_points_for_linformer():
    graphdef, params = build_perturbed("linformer")
    with pytest.raises(ValueError, match="x has 20 points but seq_len is 19; pass fewer points or build"):
        jax.eval_shape(apply_fn(graphdef), params, points(n=20))


@pytest.mark.parametrize(
    ("case", "changes", "message"),
    [
        ("linear", {"kernel": "elo"}, "kernel is 'elo' .did you mean 'elu'.. but must be one of 'identity'"),
        ("linformer", {"k": 0}, "k is 0 but must be an integer of at least 1"),
        ("linformer", {"seq_len": 1.5}, "seq_len is 1.5 but must be an integer"),
        ("transformer", {"num_heads": 5}, "num_heads 5 does not divide channel_dim 12"),
        ("transformer", {"mlp_ratio": 0.0}, "mlp_ratio is 0.0 but must be a positive number"),
        ("transformer", {"num_layers_in_out_proj": -2}, "num_layers_in_out_proj is -2"),
        ("transformer", {"act": "relu"}, "act is 'relu'"),
        ("transformer", {"in_out_proj_act": "relu"}, "in_out_proj_act is 'relu'"),
    ],
)
def test_bad_options(case, changes, message):
    with pytest.raises(ValueError, match=message) as raised:
        nnx.eval_shape(lambda: build(case, **changes))
    assert "\n" not in str(raised.value)


def test_linear_attention_of_many_points_has_linear_memory():
    """16384 points: the N×N array would take 2 GiB for two heads."""
    graphdef, params = build_perturbed("linear", num_blocks=1)
    x = jax.ShapeDtypeStruct((1, 16384, 3), jnp.float32)

    def loss(params, x):
        return jnp.sum(apply_fn(graphdef)(params, x) ** 2)

    compiled = jax.jit(jax.grad(loss)).lower(params, x).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 200 * 2**20

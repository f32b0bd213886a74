"""Transolver, Transolver++, TS1 and TS3 against a plain numpy version; their noise, statistics, defaults and errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flare_jax.checks import check_function_features
from flare_jax.convert import to_torch
from flare_jax.mixers.adaptive_slice_attention import evaluation_draws, gumbel_noise
from flare_jax.mixers.learned_slice_attention import (
    DroppedSliceConfig,
    LearnedSliceAttention,
    MixedSliceAttention,
    MixedSliceConfig,
)
from flare_jax.mixers.slice_attention import slice_projection
from flare_jax.models import build_model
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import apply_fn, split
from tests.flare_jax.models import naive_transolver
from tests.flare_jax.models.cases import CASES, build_perturbed, inputs, points
from tests.flare_jax.models.cases_transolver import CASES as OWN_CASES
from tests.numerics import assert_close, rms_ratio

ONE_BLOCK = {"num_blocks": 1}


@functools.cache
def jitted(case, **changes):
    """Return the jitted model of one block of a case, and its perturbed parameters."""
    graphdef, params = build_perturbed(case, **ONE_BLOCK, **changes)
    return jax.jit(apply_fn(graphdef), static_argnames="return_stats"), params


def compare_with_numpy(case, params=None, uniforms=None, **changes):
    apply, own_params = jitted(case, **changes)
    params = own_params if params is None else params
    model_type, options = CASES[case].model_type, CASES[case].options | ONE_BLOCK | changes
    noise = {} if uniforms is None else {"uniforms": uniforms}
    arguments = inputs(case) | noise
    expected = naive_transolver.forward(model_type, to_torch(model_type, params), options=options, **arguments)
    actual = apply(params, **arguments)
    assert_close(case, actual, expected, 2e-5)
    return actual


@pytest.mark.parametrize("case", [case for case in OWN_CASES if case != "transolver++_noise"])
def test_prediction(case):
    compare_with_numpy(case)


@pytest.mark.parametrize(
    ("case", "changes"),
    [
        *(("transolver", {"act": act}) for act in naive_transolver.POINTWISE if act not in ("gelu", "tanh")),
        ("ts1_uncond", {"act": "silu", "qk_norm": False}),
        ("ts3_uncond", {"act": None, "qk_norm": False}),
        ("ts3_uncond_grid", {"act": "swiglu", "qk_norm": True}),
        ("transolver_grid", {"grid_shape": (12,)}),
    ],
    ids=str,
)
def test_prediction_with_other_options(case, changes):
    compare_with_numpy(case, **changes)


@pytest.mark.parametrize("case", ["transolver", "transolver_grid"])
@pytest.mark.parametrize("temperature", [0.05, 7.0])
def test_the_temperature_is_clamped_on_grids_only(case, temperature):
    _, params = jitted(case)
    name = "blocks.0.att.temperature"
    compare_with_numpy(case, params | {name: jnp.full_like(params[name], temperature)})


def test_points_of_low_temperature_are_clamped():
    """Transolver++ never divides by less than 0.01, also where the learned temperature is negative."""
    _, params = jitted("transolver++")
    name = "blocks.0.att.temperature_bias"
    assert np.isfinite(np.asarray(compare_with_numpy("transolver++", params | {name: params[name] - 0.7}))).all()


def test_unified_positions_pass_the_input_on_as_function_features():
    """The corrected default equals the original's model that gets x a second time as fx."""
    x = inputs("transolver_grid")["x"]
    corrected, params = jitted("transolver_grid")
    original, other_params = jitted("transolver_grid", unified_pos_drop_input=True, fun_dim=3)
    assert {name: p.shape for name, p in params.items()} == {name: p.shape for name, p in other_params.items()}
    assert_close("prediction", corrected(params, x), original(params, x, fx=x), 1e-6)
    constant, params = jitted("transolver_grid", unified_pos_drop_input=True)
    assert_close("dropped input", constant(params, x), constant(params, 3 * x + 1), 0.0)


def test_noise_is_what_the_uniform_draws_give():
    draws = [jax.random.uniform(jax.random.key(5), (2, 2, 11, 5))]
    noisy = compare_with_numpy("transolver++", uniforms=draws)
    apply, params = jitted("transolver++")
    assert rms_ratio(noisy, apply(params, **inputs("transolver++"))) > 1e-2


def test_gumbel_noise_is_finite_at_the_ends():
    ends = np.array([0.0, 1e-7, 0.3, 1.0])
    expected = -np.log(-np.log(ends[:3] + 1e-8) + 1e-8)
    noise = gumbel_noise(jnp.asarray(ends, jnp.float32))
    assert_close("noise", noise[:3], expected, 1e-6)
    assert 18 < noise[3] < 19


def test_evaluation_noise_is_fixed_and_independent_of_the_batch():
    apply, params = jitted("transolver++_noise")
    quiet, _ = jitted("transolver++_noise", eval_noise=False)
    x = points()
    assert rms_ratio(apply(params, x), quiet(params, x)) > 1e-2
    assert_close("rows", apply(params, jnp.concatenate([x, x]))[2:], apply(params, x), 1e-6)
    draws = jax.jit(lambda: evaluation_draws(x.shape, blocks=2, heads=2, slices=5))()
    assert rms_ratio(draws[0], draws[1]) > 0.1, "blocks must not share their noise"
    assert_close("samples", draws[0][0], draws[0][1], 0.0)


@pytest.mark.parametrize("case", ["transolver++", "transolver_conditioned", "ts1_uncond"])
def test_random_parts_depend_on_the_key_only(case):
    """Noise and dropout need a key, and the same key gives the same numbers."""
    apply, params = jitted(case)
    arguments = inputs(case)
    quiet = apply(params, **arguments)
    first = apply(params, **arguments, key=jax.random.key(0))
    assert_close("same key", apply(params, **arguments, key=jax.random.key(0)), first, 0.0)
    assert rms_ratio(first, quiet) > 1e-3
    assert rms_ratio(apply(params, **arguments, key=jax.random.key(1)), first) > 1e-3


@pytest.mark.parametrize("case", ["transolver++", "transolver_conditioned"])
def test_recomputed_blocks_have_the_same_gradients(case):
    graphs = [build_perturbed(case, remat=remat)[0] for remat in (True, False)]
    _, params = build_perturbed(case)

    def gradients(graphdef):
        def loss(params):
            return jnp.sum(apply_fn(graphdef)(params, **inputs(case), key=jax.random.key(0)) ** 2)

        return jax.jit(jax.grad(loss))(params)

    recomputed, stored = map(gradients, graphs)
    largest = max(float(np.abs(np.asarray(grad)).max()) for grad in stored.values())
    for name, grad in stored.items():
        assert_close(name, recomputed[name], grad, 1e-5, absolute=1e-6 * largest)
    jaxprs = [str(jax.make_jaxpr(lambda p, g=graph: apply_fn(g)(p, **inputs(case)))(params)) for graph in graphs]
    assert ["remat" in jaxpr for jaxpr in jaxprs] == [True, False]


def test_statistics_of_the_slices():
    """They are the weights that numpy finds, and asking for them does not change the prediction."""
    apply, params = jitted("ts1_uncond", act=None, qk_norm=False)
    y, (statistics,) = apply(params, points(), return_stats=True)
    assert_close("prediction", y, apply(params, points()), 1e-6)
    state = {name: np.asarray(v, np.float64) for name, v in to_torch("ts1_uncond", params).items()}
    x = np.asarray(points(), np.float64)
    embedded = naive_transolver.linear(
        state, "x_embedding.fc2", naive_transolver.gelu_erf(naive_transolver.linear(state, "x_embedding.fc1", x))
    )
    options = {"num_heads": 2}
    normed = naive_transolver.norm(state, "blocks.0.ln1", embedded)
    scores, v = naive_transolver.slice_scores(state, "blocks.0.att", normed, 2, options)
    weights = naive_transolver.softmax(scores, 2)
    tokens = naive_transolver.slice_means(weights.swapaxes(-1, -2), v)
    q, k, _ = np.split(tokens @ state["blocks.0.att.qkv_proj"], 3, axis=-1)
    logits = q @ k.swapaxes(-1, -2) / np.sqrt(6)
    assert_close("slice weights", statistics.slice_weights, weights, 1e-5)
    assert_close("attention", statistics.attention_weights, naive_transolver.softmax(logits, -1), 1e-5)
    assert statistics.temperature == 1
    assert statistics.slice_bias.shape == (2, 5)
    assert not np.asarray(statistics.slice_bias).any()


@pytest.mark.parametrize(
    ("model_type", "blocks", "head_dim", "slices", "width"),
    [("transolver", 5, 32, 32, 256), ("transolver++", 5, 32, 32, 256), ("ts1_uncond", 5, 16, 32, 128)],
)
def test_defaults(model_type, blocks, head_dim, slices, width):
    model = nnx.eval_shape(lambda: build_model(model_type, 2, 1, {}, rngs=ParameterKeys(0)))
    att = model.blocks[0].att
    assert (len(model.blocks), att.head_dim, model.blocks[0].mlp.fc1.kernel.shape) == (blocks, head_dim, (width, width))
    assert slices == (att.slice_q.shape[1] if model_type == "ts1_uncond" else att.slice_proj.kernel.shape[1])


def test_initial_values():
    """Placeholder ~ Uniform(0, 1/C), temperatures 1/2, slice projections Normal(0, 0.02²) or orthogonal, biases 0."""
    options = {"channel_dim": 64, "num_blocks": 1, "num_heads": 4, "num_slices": 8, "time_input": True}
    params = jax.jit(lambda: split(build_model("transolver", 3, 1, options, rngs=ParameterKeys(0)))[1])()
    placeholder = np.asarray(params["placeholder"])
    assert ((placeholder >= 0) & (placeholder < 1 / 64)).all()
    assert abs(placeholder.mean() - 1 / 128) < 5 / 64 / np.sqrt(12 * 64)
    assert (np.asarray(params["blocks.0.att.temperature"]) == 0.5).all()
    assert not any(np.asarray(value).any() for name, value in params.items() if name.endswith("bias"))
    assert abs(np.asarray(params["blocks.0.att.slice_proj.kernel"]).std() / 0.02 - 1) < 0.3
    orthogonal = jax.jit(lambda: slice_projection(16, 8, orthogonal=True, rngs=ParameterKeys(0)).kernel[...])()
    assert_close("orthogonal", np.asarray(orthogonal).T @ np.asarray(orthogonal), np.eye(8), 1e-5)


def test_initial_values_of_the_learned_slices():
    """The mixing matrix of TS3 ~ Uniform(±1/√(H·M)), its slice queries ~ Normal(0, 0.1²), those of TS1 std 0.02."""
    mixed = jax.jit(
        lambda: split(MixedSliceAttention(64, MixedSliceConfig(num_heads=4, num_slices=8), rngs=ParameterKeys(0)))[1]
    )()
    mix = np.asarray(mixed["mix"])
    assert np.abs(mix).max() < 32**-0.5
    assert abs(mix.std() * np.sqrt(32 * 3) - 1) < 0.1
    assert abs(np.asarray(mixed["slice_q"]).std() / 0.1 - 1) < 0.2
    assert (np.asarray(mixed["token_gain"]) == 1).all()
    learned = jax.jit(
        lambda: split(LearnedSliceAttention(64, DroppedSliceConfig(num_heads=4, num_slices=8), rngs=ParameterKeys(0)))[
            1
        ]
    )()
    for name in ("slice_q", "qkv_proj"):
        assert abs(np.asarray(learned[name]).std() / 0.02 - 1) < 0.2


@pytest.mark.parametrize(
    ("model_type", "options", "message"),
    [
        ("transolver", {"num_heads": 3}, "num_heads 3 does not divide channel_dim 256"),
        ("transolver", {"num_slices": 0}, "num_slices is 0 but must be an integer of at least 1"),
        ("transolver", {"num_blocks": 0}, "num_blocks is 0"),
        ("transolver", {"fun_dim": -1}, "fun_dim is -1 but must be an integer of at least 0"),
        ("transolver", {"act": "elu"}, "act is 'elu' .* but must be one of .*'leaky_relu'"),
        ("transolver", {"mlp_ratio": 0.0}, "mlp_ratio is 0.0"),
        ("transolver", {"dropout": 1.0}, "dropout is 1.0 but must be a number of at least 0 and below 1"),
        (
            "transolver",
            {"grid_shape": (2, 3, 4, 5)},
            r"grid_shape is \(2, 3, 4, 5\) but must be a tuple of 1",
        ),
        ("transolver", {"grid_shape": (2, 0)}, r"grid_shape is \(., 0\) but must be a tuple of integers of at least 1"),
        ("transolver", {"unified_pos": True}, "unified_pos is True but grid_shape is None; give the shape of the grid"),
        ("transolver", {"unified_pos_drop_input": True}, "unified_pos_drop_input is True but has no effect with unif"),
        ("transolver", {"unified_pos": True, "grid_shape": (2, 3), "ref": 0}, "ref is 0"),
        ("transolver++", {"grid_shape": (2, 3)}, "'transolver..' has no option 'grid_shape'"),
        ("ts1_uncond", {"act": "geglu"}, "act is 'geglu' .* but must be one of .*'swiglu' or None"),
        (
            "ts3_uncond",
            {"act": "swiglu", "channel_dim": 24, "mlp_ratio": 1.05},
            "halves the hidden vector .* width is 25",
        ),
    ],
)
def test_bad_options(model_type, options, message):
    with pytest.raises(ValueError, match=message) as raised:
        nnx.eval_shape(lambda: build_model(model_type, 2, 1, options, rngs=ParameterKeys(0)))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("case", "changes", "message"),
    [
        ("transolver", {"fx": jnp.ones((2, 11, 1))}, r"fx has shape \(2, 11, 1\) but fun_dim is 0"),
        ("transolver", {"time": jnp.ones(2)}, r"time has shape \(2,\) but the model has time_input=False"),
        ("transolver_conditioned", {"fx": None}, "fx is None but fun_dim is 2; pass function features"),
        ("transolver_conditioned", {"time": None}, "time is None but time_input is True; pass one"),
        ("transolver_grid", {"x": jnp.ones((2, 11, 3))}, r"x has 11 points but grid_shape \(3, 4\) has 12; pass all"),
        ("ts3_uncond_grid", {"x": jnp.ones((2, 11, 3))}, r"x has 11 points but grid_shape \(4, 3\) has 12"),
        ("transolver++", {"uniforms": []}, "uniforms has 0 arrays but the model has 2 blocks; pass one per block"),
        (
            "transolver++",
            {"uniforms": [jnp.ones((2, 2, 11, 4))] * 2},
            r"uniforms\[0\] has shape \(2, 2, 11, 4\) but must be \[B, H, N, M\] = \(2, 2, 11, 5\)",
        ),
    ],
)
def test_bad_inputs(case, changes, message):
    graphdef, params = build_perturbed(case)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(apply_fn(graphdef), params, **(inputs(case) | changes))


@pytest.mark.parametrize(
    ("fx", "message"),
    [
        (jnp.ones((2, 11, 2)), r"fx has shape \(2, 11, 2\) but must be \[B, N, fun_dim\] = \(2, 11, 3\)"),
        (jnp.ones((2, 11, 3), int), "fx has dtype int32 but must be floating point"),
    ],
)
def test_bad_function_features(fx, message):
    with pytest.raises(ValueError, match=message):
        check_function_features(fx, (2, 11, 4), 3)

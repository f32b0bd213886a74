import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from ml_collections import ConfigDict

from configs.common import pde_config
from experiments.errors import UserError
from experiments.training.optimizers import (
    build_optimizer,
    build_packing,
    muon_group,
    parameter_group,
    scheduled_options,
)
from experiments.training.packing import make_packing
from flare_jax import params as model_params
from flare_jax.mixers.ema_attention import EmaAttention, EmaConfig
from flare_jax.models.registry import MODELS, build_model
from flare_jax.parameter_keys import ParameterKeys


def _section(**changes):
    optimizer = ConfigDict(pde_config("elasticity").optimizer)
    for name, value in changes.items():
        optimizer[name] = value
    return optimizer


def _run(section, params, gradients, rate=0.1, beta1=None, clip=0.0, matrices=()):
    packing = build_packing(section.name, params, matrices)
    schedules = scheduled_options(section, lambda k: jnp.asarray(rate), beta1)
    optimizer = build_optimizer(section, clip, schedules, packing)
    packed = packing.pack(params)
    state = optimizer.init(packed)
    for gradient in gradients:
        updates, state = optimizer.update(packing.pack(gradient), state, packed)
        packed = optax.apply_updates(packed, updates)
    return packing.unpack(packed)


def test_adamw_two_steps_by_hand_with_cycled_beta1_and_decay_mask():
    betas, rate, decay, eps, b2 = [0.95, 0.85], 0.1, 0.5, 1e-8, 0.99
    section = _section(weight_decay=decay, beta2=b2, eps=eps)
    start = {"a.kernel": np.array([[1.0, -2.0]]), "a.bias": np.array([3.0])}
    gradients = [
        {"a.kernel": np.array([[0.3, -0.1]]), "a.bias": np.array([0.7])},
        {"a.kernel": np.array([[-0.2, 0.4]]), "a.bias": np.array([0.1])},
    ]
    as_jax = lambda tree: {name: jnp.asarray(np.float32(value)) for name, value in tree.items()}  # noqa: E731
    got = _run(section, as_jax(start), [as_jax(g) for g in gradients], rate, lambda k: jnp.asarray(betas)[k])

    for name, decayed in (("a.kernel", True), ("a.bias", False)):
        p, m, v = start[name], 0.0, 0.0
        for t, (b1, gradient) in enumerate(zip(betas, gradients, strict=True), start=1):
            g = gradient[name]
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
            p = p - rate * decay * p * decayed - rate * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
        np.testing.assert_allclose(got[name], p, rtol=1e-5)


def test_lion_is_the_published_one():
    section = _section(name="lion", weight_decay=0.5)
    start, gradients = 2.0, [0.3, -1.0]
    got = _run(
        section, {"a.kernel": jnp.full((1, 1), start)}, [{"a.kernel": jnp.full((1, 1), g)} for g in gradients], rate=0.1
    )
    p, m = start, 0.0
    for g in gradients:
        p = p - 0.1 * (np.sign(0.9 * m + 0.1 * g) + 0.5 * p)
        m = 0.99 * m + 0.01 * g
    np.testing.assert_allclose(got["a.kernel"], p, rtol=1e-6)


@pytest.mark.parametrize(("shape", "scale"), [((16, 64), 2.0), ((64, 16), 1.0)])
def test_muon_orthogonalises_and_scales_by_out_over_in(shape, scale):
    gradient = {
        "blocks.0.a.kernel": jax.random.normal(jax.random.key(0), shape),
        "blocks.1.a.kernel": jax.random.normal(jax.random.key(1), shape),
        "blocks.0.a.bias": jnp.ones(3),
        "in_proj.kernel": jnp.ones((2, 2)),
    }
    zero = jax.tree.map(jnp.zeros_like, gradient)
    section = _section(name="muon", learning_rate=1.0, muon_learning_rate=1.0)
    got = _run(section, zero, [gradient], rate=1.0, matrices=gradient.keys() - {"blocks.0.a.bias"})
    for block in (0, 1):  # each by itself, although they are stored as one array
        step = -np.asarray(got[f"blocks.{block}.a.kernel"]).reshape(-1, shape[-1])
        values = np.linalg.svd(step, compute_uv=False) / scale
        assert values.min() > 0.6
        assert values.max() < 1.3
        assert np.sum(step * np.asarray(gradient[f"blocks.{block}.a.kernel"]).reshape(step.shape)) > 0
    np.testing.assert_allclose(got["in_proj.kernel"], -1.0, rtol=1e-5)  # AdamW's first step is the sign


@pytest.mark.parametrize(("norm", "clipped"), [(10.0, 1.0), (0.5, 0.5)])
def test_clipping_limits_the_global_norm_and_leaves_smaller_ones(norm, clipped):
    # With eps far above the gradient AdamW's first step is rate · gradient / eps, so the step shows the gradient.
    section = _section(eps=1e6)
    zero = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    gradient = {"a": jnp.array([0.6 * norm]), "b": jnp.array([0.8 * norm])}
    moved = _run(section, zero, [gradient], rate=1e6, clip=1.0)
    np.testing.assert_allclose(optax.tree.norm(moved), clipped, rtol=1e-4)


def test_decay_latents_false_takes_the_latents_out():
    params = {"blocks.0.att.latent_q": jnp.ones((2, 2)), "blocks.0.att.out_proj.kernel": jnp.ones((2, 2))}
    zero = jax.tree.map(jnp.zeros_like, params)
    kept = _run(_section(weight_decay=0.5, decay_latents=False), params, [zero])
    default = _run(_section(weight_decay=0.5), params, [zero])
    np.testing.assert_allclose(kept["blocks.0.att.latent_q"], 1.0)
    np.testing.assert_allclose(default["blocks.0.att.latent_q"], 0.95, rtol=1e-6)
    np.testing.assert_allclose(kept["blocks.0.att.out_proj.kernel"], 0.95, rtol=1e-6)


def test_undecayed_parameters_of_flare_are_its_biases_and_norms():
    model = build_model(
        "flare", 2, 1, {"channel_dim": 8, "num_blocks": 1, "num_heads": 2, "num_latents": 4}, rngs=ParameterKeys(0)
    )
    graphdef, params = model_params.split(model)
    undecayed = {name for name in params if parameter_group(name) == "no_decay"}
    assert undecayed == {name for name in params if name.endswith((".bias", ".scale"))}
    assert {name for name in params if parameter_group(name) == "latent"} == {"blocks.0.att.latent_q"}
    matrices = model_params.matrix_names(graphdef, params)
    assert matrices == {name for name in params if name.endswith(".kernel")}
    hidden = {name for name in params if muon_group(name, matrices) == "muon"}
    assert hidden == {name for name in matrices if name.startswith("blocks.")}


# Parameters with several axes of which some are matrices and some are not, by model and then by the end of their path.
_ROLES = {
    "transolver": ((8, 8), {"att.slice_proj.kernel": "muon", "att.temperature": "decay", "placeholder": "decay"}),
    "lamo": (None, {"token_mixer.diagonal.kernel": "muon", "token_mixer.convolution.kernel": "decay"}),
    "ts1_uncond": (None, {"att.qkv_proj": "decay", "att.slice_q": "decay", "att.out_proj.kernel": "muon"}),
    "ts3_uncond": ((8, 8), {"att.mix": "muon", "att.slice_q": "decay", "att.kv_proj.kernel": "muon"}),
    "linformer": (None, {"att.E_k": "muon", "att.E_v": "muon"}),
    "perceiverio": (None, {"encoder.latent_q": "latent", "decoder.att.q_proj.kernel": "decay"}),
}


@pytest.mark.parametrize("name", _ROLES)
def test_muon_takes_the_matrices_of_blocks_and_nothing_else_with_several_axes(name):
    grid, wanted = _ROLES[name]
    sizes = {
        "channel_dim": 64,
        "num_heads": 2,
        "num_blocks": 1,
        "state_space_head_dim": 32,
        "seq_len": 64,
        "grid_shape": grid,
    }
    options = {key: value for key, value in sizes.items() if key in MODELS[name].options()}
    model = nnx.eval_shape(lambda: build_model(name, 2, 1, options, rngs=ParameterKeys(0)))
    _check_roles(model, wanted)


def test_muon_leaves_the_logits_of_an_exponential_average_alone():
    model = nnx.eval_shape(lambda: EmaAttention(16, EmaConfig(), rngs=ParameterKeys(0)))
    logits = {"ema.alpha_logits": "decay", "ema.delta_logits": "decay", "ema.eta": "decay"}
    _check_roles(nnx.Dict(block=model), {"Wh": "muon", "Uh": "muon", "query_proj.kernel": "muon", **logits})


def _check_roles(model, wanted):
    graphdef, params = model_params.split(model)
    matrices = model_params.matrix_names(graphdef, params)
    for end, group in wanted.items():
        found = {muon_group(path, matrices) for path in params if path.endswith(end)}
        assert found == {group}, end
    assert all(len(params[path].shape) >= 2 for path in matrices)


def test_muon_without_a_hidden_matrix_is_refused():
    with pytest.raises(UserError, match="finds no matrix inside a block of this model; use adamw"):
        build_packing("muon", {"in_proj.kernel": jnp.ones((2, 2))}, {"in_proj.kernel"})


@pytest.mark.parametrize(
    ("path", "group"),
    [
        ("token_embedding.embedding", "no_decay"),
        ("cls_token", "no_decay"),
        ("blocks.0.ssm.dt_bias", "no_decay"),
        ("blocks.0.att.temperature", "decay"),
        ("encoder.latent_q", "latent"),
        ("query", "latent"),
    ],
)
def test_groups_by_path(path, group):
    assert parameter_group(path) == group


def test_packing_is_undone_exactly():
    params = {"a": jnp.arange(6.0).reshape(2, 3), "b": jnp.array(7.0), "m": jnp.ones((2, 2))}
    params |= {"n": jnp.zeros((3, 2)), "o": jnp.full((2, 2), 2.0)}
    packing = make_packing(params, {"a": "x", "b": "x", "m": "y", "n": "y", "o": "y"}, frozenset({"y"}))
    packed = packing.pack(params)
    assert packed["x"].shape == (7,)
    assert {shape: stack.shape for shape, stack in packed["y"].items()} == {"2x2": (2, 2, 2), "3x2": (1, 3, 2)}
    for name, value in packing.unpack(packed).items():
        np.testing.assert_array_equal(value, params[name])


def test_unknown_optimizer_is_named():
    with pytest.raises(UserError, match="adamW"):
        build_packing("adamW", {})


def test_parameters_are_cut_out_of_their_vector_by_one_program():
    params = {f"{number}.kernel": jnp.full((2, number + 3), float(number)) for number in range(7)}
    packing = make_packing(params, dict.fromkeys(params, "decay"))
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if event.endswith("backend_compile_duration") else None
    )
    packed = packing.pack(params)
    compiled.clear()
    cut = packing.unpack_now(packed)
    packing.unpack_now(packed)
    assert len(compiled) == 1
    for name, value in params.items():
        np.testing.assert_array_equal(cut[name], value)


def test_matrices_of_one_shape_are_updated_as_each_alone():
    rng = np.random.default_rng(0)
    params = {f"blocks.{i}.a.kernel": jnp.asarray(rng.standard_normal((8, 12)), jnp.float32) for i in range(3)}
    gradient = {name: jnp.asarray(rng.standard_normal((8, 12)), jnp.float32) for name in params}
    section = _section(name="muon", learning_rate=1.0, muon_learning_rate=1.0)
    together = _run(section, params, [gradient, gradient], matrices=set(params))
    for name, value in params.items():
        alone = _run(section, {name: value}, [{name: gradient[name]}] * 2, matrices={name})
        np.testing.assert_allclose(together[name], alone[name], rtol=1e-4, atol=1e-5)

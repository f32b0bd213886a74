"""The tiny recursive model: its recursions and their gradients, deep supervision, halting, masks, conversion."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flare_jax.convert import from_torch, to_torch
from flare_jax.models.sequence import RecursionState, build_sequence_model
from flare_jax.models.sequence.recursion import correct_answers, halting_loss, predict_until_halt
from flare_jax.models.sequence.trm import Recursion
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import apply_fn, merge, split
from tests.flare_jax.models.sequence.cases import (
    CHANNEL_DIM,
    LABELS,
    LENGTH,
    NUM_HEADS,
    VOCABULARY,
    perturbed,
    tokens,
    trailing_mask,
)
from tests.numerics import assert_close, rms_ratio

SMALL = {"num_steps": 3, "num_latent_updates": 2, "num_recursions": 2}
# No option keeps its default, but for the backend's and `pool`, which does not matter for token-level tasks.
OPTIONS = {
    **SMALL,
    "masked_pool": False,
    "ignore_mask": True,
    "pad_id": 3,
    "zero_pad_embedding": False,
    "emb_drop": 0.1,
    "cls_drop": 0.1,
    "pos_embed": "rope",
    "rope_mode": "reference",
    "act": "silu",
    "rmsnorm": True,
}


def trm(backend="linear", task="match3", dtype="float32", **options):
    """Return structure and perturbed parameters of a small model."""
    sizes = {"num_blocks": 1, "channel_dim": CHANNEL_DIM, "num_heads": NUM_HEADS, "max_length": LENGTH}
    return perturbed(
        lambda: build_sequence_model(
            backend,
            task,
            VOCABULARY,
            LABELS,
            sizes | SMALL | options,
            model_type="trm",
            dtype=dtype,
            rngs=ParameterKeys(0),
        )
    )


@functools.cache
def small():
    """Return the jitted model of the defaults above and its parameters."""
    graphdef, params = trm()
    return jax.jit(apply_fn(graphdef)), params


def plain_prediction(model, ids, mask=None):
    """Return the logits by the definition, without scans; gradients stop wherever the original has none."""

    def blocks(u):
        for block in model.blocks:
            u = block(u + model.positions(ids.shape[1]), mask)
        return model.final_norm(u)

    y = jnp.broadcast_to(model.y_init[...], (*ids.shape, model.y_init.shape[0]))
    z = jnp.broadcast_to(model.z_init[...], y.shape)
    for _ in range(model.num_steps):
        for recursion in range(model.num_recursions):
            x = model.token_embedding(ids)
            for _ in range(model.num_latent_updates):
                z = blocks(x + y + z)
            y = blocks(y + z)
            if recursion < model.num_recursions - 1:
                y, z = jax.lax.stop_gradient((y, z))
        answer = y
        y, z = jax.lax.stop_gradient((y, z))
    largest = jnp.take_along_axis(answer, answer.argmax(1, keepdims=True), 1)[:, 0]
    return model.head({None: answer, "mean": answer.mean(1), "max": largest}[model.pool])


def gradients(forward, params):
    def loss(params):
        logits = forward(params)
        return jnp.sum(jnp.sin(logits)), logits

    return jax.jit(jax.grad(loss, has_aux=True))(params)


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("match3", {"num_steps": 2, "num_latent_updates": 1}),
        ("listops", {"num_steps": 1, "num_recursions": 1, "pool": "max"}),
        ("listops", {"num_steps": 2, "num_recursions": 1, "num_blocks": 2, "num_latent_updates": 1}),
    ],
)
def test_prediction_and_gradients_are_those_of_the_definition(task, options):
    graphdef, params = trm(task=task, **options)
    grads, logits = gradients(lambda p: apply_fn(graphdef)(p, tokens()), params)
    expected_grads, expected = gradients(lambda p: plain_prediction(merge(graphdef, p), tokens()), params)
    assert logits.dtype == jnp.float32
    assert_close("logits", logits, expected, 1e-5)
    largest = max(float(np.abs(np.asarray(grad)).max()) for grad in expected_grads.values())
    for name, grad in grads.items():
        assert_close(name, grad, expected_grads[name], 1e-4, absolute=1e-6 * largest)
    single = options.get("num_steps", SMALL["num_steps"]) * options.get("num_recursions", 2) == 1
    for name in ("y_init", "z_init"):
        assert bool(np.asarray(grads[name]).any()) == single, name
    assert not any(np.asarray(grads[name]).any() for name in grads if name.startswith("halt_head"))


def test_steps_and_recursions_are_loops_without_residuals():
    """More of them make neither a larger program nor a larger memory of the backward pass."""

    def compiled(**options):
        graphdef, params = trm(**options)
        lowered = jax.jit(jax.grad(lambda p: jnp.sum(apply_fn(graphdef)(p, tokens()) ** 2))).lower(params)
        return len(lowered.as_text().splitlines()), lowered.compile().memory_analysis().temp_size_in_bytes

    lines, memory = compiled()
    more_lines, more_memory = compiled(num_steps=9, num_recursions=5)
    assert abs(more_lines - lines) < 0.02 * lines
    assert more_memory < 1.1 * memory


def test_deep_recursions_by_hand_are_the_prediction():
    graphdef, params = trm()
    step = jax.jit(lambda params, state: merge(graphdef, params).deep_recursion(tokens(), state))
    state = merge(graphdef, params).initial_state(tokens())
    for _ in range(SMALL["num_steps"]):
        recursion = step(params, state)
        state = recursion.state
    assert_close("logits", recursion.logits, small()[0](params, tokens()), 1e-6)
    assert recursion.halt_logits.shape == (2, 1)
    assert recursion.state.y.shape == recursion.state.z.shape == (2, LENGTH, CHANNEL_DIM)


def test_no_gradient_flows_through_the_carried_state():
    graphdef, params = trm()

    def total(params, state):
        recursion = merge(graphdef, params).deep_recursion(tokens(), state)
        return jnp.sum(recursion.state.y) + jnp.sum(recursion.state.z)

    state = merge(graphdef, params).initial_state(tokens())
    for leaf in jax.tree.leaves(jax.jit(jax.grad(total, argnums=(0, 1)))(params, state)):
        assert not np.asarray(leaf).any()


def test_padding_does_not_matter_and_masks_can_be_ignored():
    mask = trailing_mask()
    other = jnp.where(mask, tokens(), (tokens() + 1) % 7)
    real = np.asarray(mask)
    apply, params = small()
    y = apply(params, tokens(), mask)
    assert_close("padding", apply(params, other, mask)[real], y[real], 1e-6)
    ignoring = jax.jit(apply_fn(trm(ignore_mask=True)[0]))
    assert_close("ignored", ignoring(params, tokens(), mask), apply(params, tokens()), 1e-6)
    assert rms_ratio(y[real], apply(params, tokens())[real]) > 1e-3


def test_masked_pool():
    graphdef, params = trm(task="listops")
    apply, mask = jax.jit(apply_fn(graphdef)), trailing_mask()
    other = jnp.where(mask, tokens(), (tokens() + 1) % 7)
    assert_close("pooled", apply(params, other, mask), apply(params, tokens(), mask), 1e-6)


def test_backends_without_masks_refuse_them_here_too():
    graphdef, params = trm("linear_no", masked=False)
    with pytest.raises(ValueError, match="linear_no takes no mask"):
        jax.eval_shape(apply_fn(graphdef), params, tokens(), trailing_mask())
    jax.eval_shape(apply_fn(trm("linear_no", masked=False, ignore_mask=True)[0]), params, tokens(), trailing_mask())


def test_all_options_and_dropout():
    graphdef, params = trm(**OPTIONS, num_blocks=1)
    forward = jax.jit(apply_fn(graphdef))
    plain = forward(params, tokens(), trailing_mask())
    first, again, other = (forward(params, tokens(), None, jax.random.key(seed)) for seed in (0, 0, 1))
    assert_close("same key", first, again, 0.0)
    assert min(rms_ratio(first, plain), rms_ratio(first, other)) > 1e-2


def test_every_update_has_its_own_dropout():
    graphdef, params = trm("transformer", attn_drop=0.5)
    model, x = merge(graphdef, params), jax.random.normal(jax.random.key(1), (2, LENGTH, CHANNEL_DIM))
    key = jax.random.key(3)
    latent_key, answer_key = jax.random.split(key)

    def by_hand(keys):
        z = x
        for update_key in keys:
            z = model._apply_blocks(x + x + z, None, update_key)
        return model._apply_blocks(x + z, None, answer_key)

    by_hand = jax.jit(by_hand)
    y = jax.jit(lambda x: model.latent_recursion(x, RecursionState(x, x), None, key).y)(x)
    assert_close("own keys", y, by_hand(jax.random.split(latent_key)), 1e-5)
    assert rms_ratio(y, by_hand(jnp.stack([latent_key, latent_key]))) > 1e-2


def test_bfloat16_is_close():
    apply, params = small()
    y = jax.jit(apply_fn(trm(dtype="bfloat16")[0]))(params, tokens())
    assert y.dtype == jnp.float32
    assert 1e-4 < rms_ratio(y, apply(params, tokens())) < 0.2


@pytest.mark.parametrize("backend", ["ema", "flare", "triple", "third_order", "performer"])
def test_other_backends(backend):
    options = {"num_latents": 3} if backend == "flare" else {}
    graphdef, params = trm(backend, **options)
    y = jax.eval_shape(apply_fn(graphdef), params, tokens())
    assert (y.shape, y.dtype) == ((2, LENGTH, LABELS), jnp.float32)


def test_conversion_round_trip():
    _, params = trm(task="listops", pool="max")
    state = to_torch("trm", params)
    for name in (
        "y_init",
        "token_emb.token_embed.weight",
        "cls_proj.1.weight",
        "cls_proj.2.bias",
        "halt_proj.2.weight",
    ):
        assert name in state
    again = from_torch("trm", params, state)
    assert all((np.asarray(again[name]) == np.asarray(value)).all() for name, value in params.items())
    assert set(again) == set(params)


def test_defaults():
    model = nnx.eval_shape(
        lambda: build_sequence_model("transformer", "sudoku", 10, 10, {}, model_type="trm", rngs=ParameterKeys(0))
    )
    assert (model.num_steps, model.num_latent_updates, model.num_recursions) == (10, 6, 3)
    assert (len(model.blocks), model.y_init.shape) == (2, (128,))


def test_initial_states_are_random_vectors():
    built = build_sequence_model("linear", "sudoku", 10, 10, {"num_blocks": 1}, model_type="trm", rngs=ParameterKeys(0))
    _, params = split(built)
    for name in ("y_init", "z_init"):
        assert 0.01 < float(params[name].std()) < 0.03
    assert (params["y_init"] != params["z_init"]).any()


@pytest.mark.parametrize(
    ("logits", "labels", "expected"),
    [
        ([[0.5, 1.0], [2.0, 1.0]], [1, 1], [True, False]),
        ([[0.5], [-0.5], [-0.5]], [1, 1, 0], [True, False, True]),
        ([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]], [[0, -100], [0, 0]], [True, False]),
        ([[[1.0, 0.0]], [[0.0, 1.0]]], [[-100], [-100]], [True, True]),
    ],
    ids=["classes", "one logit", "tokens", "nothing to predict"],
)
def test_correct_answers(logits, labels, expected):
    assert correct_answers(jnp.array(logits), jnp.array(labels)).tolist() == expected


def test_halting_loss():
    """Binary cross-entropy of the halting logits with whether the answers are right."""
    logits = jnp.array([[0.5, 1.0], [2.0, 1.0]])
    halt_logits = jnp.array([[2.0], [0.5]])
    recursion = Recursion(RecursionState(*jnp.zeros((2, 2, 1, 1))), logits, halt_logits)
    expected = (np.log1p(np.exp(-2.0)) + np.log1p(np.exp(0.5))) / 2
    assert_close("loss", halting_loss(recursion, jnp.array([1, 1])), expected, 1e-6)


@functools.cache
def five_steps():
    """Return parameters, the recursions of five steps of six samples, and the program that halts on its own."""
    graphdef, params = trm(num_steps=5)
    ids = tokens(b=6)
    params |= {"halt_head.fc.kernel": 5 * params["halt_head.fc.kernel"]}
    step = jax.jit(lambda params, state: merge(graphdef, params).deep_recursion(ids, state))
    states, state = [], merge(graphdef, params).initial_state(ids)
    for _ in range(5):
        states.append(step(params, state))
        state = states[-1].state
    return params, states, jax.jit(lambda params: predict_until_halt(merge(graphdef, params), ids))


@pytest.mark.parametrize("bias", [-100.0, 0.0, 100.0])
def test_early_halting_is_a_loop_that_stops_per_sample(bias):
    params, states, predict = five_steps()
    halt_logits = np.stack([np.asarray(recursion.halt_logits[:, 0]) for recursion in states])
    params = params | {"halt_head.fc.bias": params["halt_head.fc.bias"] + bias - np.median(halt_logits)}
    halted = halt_logits + bias - np.median(halt_logits) > 0
    steps = np.where(halted.any(0), halted.argmax(0) + 1, 5)
    expected = np.stack([np.asarray(states[s - 1].logits[b]) for b, s in enumerate(steps)])
    logits, found = predict(params)
    assert found.tolist() == steps.tolist()
    assert_close("logits", logits, expected, 1e-5)
    if bias == 0:
        assert len(set(steps.tolist())) > 1


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("listops", {"pool": "cls"}, "pool is 'cls' but the tiny recursive model has no such token"),
        ("listops", {"pool": "sum"}, "pool is 'sum' but must be one of"),
        ("retrieval", {}, "the task has 2 documents per sample but the tiny recursive model takes one"),
        ("match3", {"num_steps": 0}, "num_steps is 0 but must be an integer of at least 1"),
        ("match3", {"num_latent_updates": 0}, "num_latent_updates is 0"),
        ("match3", {"num_recursions": 0}, "num_recursions is 0"),
        ("match3", {"num_step": 3}, "has no option 'num_step' .did you mean 'num_steps'"),
        ("match3", {"emb_drop": 1.5}, "emb_drop is 1.5"),
    ],
)
def test_bad_options(task, options, message):
    with pytest.raises(ValueError, match=message) as raised:
        trm(task=task, **options)
    assert "\n" not in str(raised.value)

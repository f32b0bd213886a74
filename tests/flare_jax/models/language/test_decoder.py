"""Decoders: prompts and single tokens give what one forward pass gives, nothing sees later tokens, sizes are right."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flare_jax import params as model_params
from flare_jax.models.language import SIZES, build_language_model, size_options
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import count_parameters, split
from tests.flare_jax.counting import count_of
from tests.flare_jax.models.language.models import (
    FLARE,
    MODELS,
    PIECE,
    RECOMMENDED,
    TOKENS,
    VOCABULARY,
    programs,
    tokens,
)

LENGTHS = np.array([1, 9, 16])


def largest_difference(actual, expected):
    return float(np.max(np.abs(np.asarray(actual) - np.asarray(expected))) / np.max(np.abs(np.asarray(expected))))


@pytest.mark.parametrize("name", MODELS)
def test_prompts_of_several_lengths_then_single_tokens_equal_one_forward_pass(name):
    model, ids = programs(name), tokens()
    expected = np.asarray(model.forward(ids))
    state = model.init_state(3, TOKENS)
    found = {}
    for start in range(0, LENGTHS.max(), PIECE):
        lengths = np.clip(LENGTHS - start, 0, PIECE)
        # Whatever stands where a prompt has ended must not matter.
        piece = np.where(np.arange(PIECE) < lengths[:, None], ids[:, start : start + PIECE], VOCABULARY - 1)
        logits, state = model.prefill(jnp.asarray(piece), state, jnp.asarray(lengths))
        for row in np.flatnonzero((lengths > 0) & (start + PIECE >= LENGTHS)):
            found[row, LENGTHS[row] - 1] = logits[row]
    position = LENGTHS.copy()
    while np.any(position < TOKENS):
        active = position < TOKENS
        step = np.asarray(ids)[np.arange(3), np.minimum(position, TOKENS - 1)]
        logits, state = model.decode_step(jnp.asarray(step), state, jnp.asarray(active))
        found |= {(row, position[row]): logits[row] for row in np.flatnonzero(active)}
        position += active
    assert len(found) == sum(TOKENS - LENGTHS + 1)
    for (row, token), logits in found.items():
        assert largest_difference(logits, expected[row, token]) <= 1e-5, (row, token)
    np.testing.assert_array_equal(state.position, [TOKENS] * 3)


@pytest.mark.parametrize("name", MODELS)
def test_later_tokens_do_not_matter_and_earlier_ones_do(name):
    model, ids = programs(name), tokens()
    changed = ids.at[:, 12].set((ids[:, 12] + 1) % VOCABULARY)
    logits, other = model.forward(ids), model.forward(changed)
    np.testing.assert_array_equal(logits[:, :12], other[:, :12])
    assert np.all(np.any(logits[:, 12:] != other[:, 12:], axis=-1))


@pytest.mark.parametrize("name", [name for name in MODELS if name != "stablemax"])
def test_documents_of_a_row_know_nothing_of_each_other(name):
    model, ids = programs(name), tokens()
    documents = jnp.asarray(np.repeat([0, 1, 2], [9, 10, 2]))[None].repeat(3, axis=0)
    together = model.forward_documents(ids, documents)
    alone = model.forward(jnp.roll(ids, -9, axis=1))
    assert largest_difference(together[:, :9], model.forward(ids)[:, :9]) <= 1e-5
    assert largest_difference(together[:, 9:19], alone[:, :10]) <= 1e-5


@pytest.mark.parametrize("name", MODELS)
def test_only_a_cache_of_keys_and_values_grows_with_the_context(name):
    def size(length):
        state = jax.eval_shape(lambda: programs(name).init_state(2, length))
        return sum(x.size for x in jax.tree.leaves(state))

    assert (size(100_000) > size(10)) == (name == "attention")


@pytest.mark.parametrize(
    ("method", "shape", "dtype", "rows", "message"),
    [
        (
            "prefill",
            (2, 3),
            jnp.float32,
            2,
            r"ids has shape \(2, 3\) and dtype float32; give numbers of tokens, integers",
        ),
        ("prefill", (2, 0), jnp.int32, 2, r"ids has shape \(2, 0\)"),
        ("prefill", (2, 3), jnp.int32, 1, r"ids has 2 rows, but the state has 1; begin with init_state\(2, ...\)"),
        ("prefill", (2, 5), jnp.int32, 2, "5 tokens do not fit into a cache of 4; raise max_length of init_state"),
        ("decode_step", (2, 1), jnp.int32, 2, r"ids has shape \(2, 1\) and dtype int32; .* integers \[B\]"),
        ("__call__", (3,), jnp.int32, 3, r"ids has shape \(3,\) and dtype int32; .* integers \[B, N\]"),
    ],
)
def test_tokens_that_are_none_and_states_of_others_are_refused(method, shape, dtype, rows, message):
    model = model_params.merge(programs("attention").graphdef, programs("attention").params)
    call = inspect.unwrap(getattr(type(model), method))  # without the shape checks of the tests
    state = [] if method == "__call__" else [model.init_state(rows, 4)]
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: call(model, jnp.zeros(shape, dtype), *state))


def test_losses_are_those_of_the_logits_in_one_part_and_in_several(monkeypatch):
    model, ids = programs("published"), tokens()
    labels = jnp.where(ids == 3, -100, jnp.roll(ids, -1, axis=1))
    logits = np.asarray(model.forward(ids), np.float64)
    chosen = np.take_along_axis(logits, np.maximum(labels, 0)[..., None], axis=-1)[..., 0]
    expected = np.where(labels >= 0, np.log(np.exp(logits).sum(-1)) - chosen, 0)
    for stored in (2**28, 3 * VOCABULARY * 5):
        monkeypatch.setattr("flare_jax.models.language.decoder._STORED_LOGITS", stored)
        found = jax.jit(lambda ids, labels: model._call("losses", ids, labels))(ids, labels)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_scores_of_the_labels_alone_are_those_of_all_tokens():
    model, ids = programs("published"), tokens()
    labels = jnp.where(ids < 3, jnp.roll(ids, -1, axis=1), -1)
    most = int(jnp.max(jnp.sum(labels >= 0, axis=1)))

    @functools.partial(jax.jit, static_argnums=2)
    def scores(ids, labels, most):
        return model_params.merge(model.graphdef, model.params).scores(ids, labels, most=most)

    for whole, chosen in zip(scores(ids, labels, None), scores(ids, labels, most), strict=True):
        assert chosen.shape == (3, most)
        for row in range(3):
            real = np.asarray(labels[row] >= 0)
            np.testing.assert_allclose(chosen[row, : real.sum()], whole[row, real], atol=1e-5)
            assert not np.any(chosen[row, real.sum() :])


def count(model_type, vocabulary, options):
    def build(num_blocks):
        changed = {**options, "num_blocks": num_blocks}
        return build_language_model(model_type, vocabulary, changed, rngs=ParameterKeys(0))

    return count_of(build, options["num_blocks"])


def test_all_blocks_are_alike():
    options = {**FLARE, "num_blocks": 5}
    model = nnx.eval_shape(lambda: build_language_model("causal_flare", VOCABULARY, options, rngs=ParameterKeys(0)))
    assert count_parameters(split(model)[1]) == count("causal_flare", VOCABULARY, options)


@pytest.mark.parametrize(
    ("size", "vocabulary", "flare", "attention", "gla"),
    [
        ("tiny", 256, 1.03, 1.08, 1.10),
        ("15M", 256, 13.2, 14.3, 14.3),
        ("15M_bpe", 16_384, 15.7, 16.4, 16.5),
        ("50M", 32_000, 48.0, 50.5, 50.6),
        ("124M", 32_000, 102.7, 109.5, 109.8),
        ("340M", 32_000, 316.326912, 341.099520, 341.707776),
    ],
)
def test_parameters_of_the_sizes(size, vocabulary, flare, attention, gla):
    counts = [count(name, vocabulary, size_options(name, size)) for name in ("causal_flare", "causal_attention", "gla")]
    digits = 6 if size == "340M" else 2 if size == "tiny" else 1
    assert [round(x / 1e6, digits) for x in counts] == [flare, attention, gla]


def test_parameters_of_the_smallest_text_size_and_of_the_recommended_options():
    assert {"tiny", "5M", "15M", "15M_bpe", "50M", "124M", "340M"} < set(SIZES)
    assert 4.3e6 < count("causal_flare", 256, size_options("causal_flare", "5M") | RECOMMENDED) < 5.8e6
    options = size_options("causal_flare", "340M") | RECOMMENDED
    counts = [count("causal_flare", 32_000, options | {"out_gate": gate}) for gate in (False, RECOMMENDED["out_gate"])]
    assert [round(x / 1e6, 1) for x in counts] == [342.6, 367.7]


def test_latents_differ_at_the_start_and_half_lives_span_the_context():
    model = build_language_model(
        "causal_flare", VOCABULARY, {**FLARE, **RECOMMENDED}, context=256, rngs=ParameterKeys(0)
    )
    mixer = model.blocks[0].mixer
    assert np.all(np.std(mixer.latents[...], axis=1) > 0.1)
    kept = jax.nn.sigmoid(mixer.forget_proj.bias[...])
    np.testing.assert_allclose(np.log(0.5) / np.log(kept), [16, 256], rtol=1e-3)
    taps = mixer.k_conv.kernel[...].reshape(2, -1, 4)
    np.testing.assert_allclose(taps.mean(1), [[0, 0, 1, 0], [0, 0, 0, 1]], atol=0.03)
    for convolution in (mixer.v_conv, mixer.r_conv):
        np.testing.assert_allclose(convolution.kernel[...].mean(0), [0, 0, 0, 1], atol=0.03)


def test_residual_scale_and_memory_saving_change_nothing_but_what_they_say():
    def model(**options):
        return build_language_model("causal_flare", VOCABULARY, {**FLARE, **options}, rngs=ParameterKeys(0))

    plain, scaled = (split(model(**options))[1] for options in ({}, {"residual_scale": True}))
    for name, value in plain.items():
        factor = 2 if name.endswith(("o_proj.kernel", "down_proj.kernel")) else 1
        np.testing.assert_allclose(factor * np.asarray(scaled[name]), value, rtol=1e-6)
    stored, recomputed = (split(nnx.eval_shape(lambda remat=remat: model(remat=remat)))[0] for remat in (False, True))
    apply = jax.jit(lambda ids: [model_params.apply_fn(graphdef)(plain, ids) for graphdef in (stored, recomputed)])
    np.testing.assert_allclose(*apply(tokens(1)), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_latents": 5000}, "num_latents is 5000 but must be an integer of at least 1 and at most 2048"),
        ({"gather": "stablemax", "forget": True}, "forget is True but gather 'stablemax' keeps everything"),
        ({"gather": "state"}, "gather is 'state' but forget is False"),
        ({"num_heads": 3}, "num_heads 3 does not divide channel_dim 16"),
        ({"num_heads": 16}, "the head width is 1 but rotary embeddings need an even one"),
        ({"block": 4, "forget": True}, "blocks of 4 tokens do not forget"),
        ({"rope": False, "rope_base": 5.0}, "rope_base is 5.0 but has no effect with rope=False"),
        ({"gather": "state", "forget": True, "implementation": "xla"}, "implementation is 'xla' but has no effect"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build_language_model("causal_flare", VOCABULARY, {**FLARE, **options}, rngs=ParameterKeys(0))


def test_keys_of_half_the_channels_need_a_multiple_of_twice_the_heads():
    with pytest.raises(ValueError, match="choose a multiple of 24"):
        build_language_model("gla", 7, {"channel_dim": 36, "num_blocks": 1, "num_heads": 12}, rngs=ParameterKeys(0))

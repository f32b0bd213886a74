"""The sequence model against a plain numpy version, and its embeddings, pooling, masks, dropout and conversion."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flare_jax.convert import from_torch, to_torch
from flare_jax.mixers.self_attention import SelfAttentionConfig
from flare_jax.models.sequence import TASKS, SequenceConfig, SequenceModel, TaskKind, build_sequence_model
from flare_jax.models.sequence.wrapper import check_tokens
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import apply_fn, split
from tests.flare_jax.models.sequence import naive_model
from tests.flare_jax.models.sequence.cases import (
    CASES,
    CHANNEL_DIM,
    LENGTH,
    VOCABULARY,
    model,
    tokens,
    trailing_mask,
)
from tests.numerics import assert_close, rms_ratio

ATTENTION = [
    name for name in CASES if CASES[name].backend in naive_model.naive_attention.MIXERS or name.startswith("flare")
]

# One case per backend is named as the backend itself.
MAIN_CASES = [name for name in CASES if CASES[name].backend == name]


def compare_with_numpy(backend, task, ids, mask, **options):
    graphdef, params = model(backend, task, **options)
    # The numpy version reads the random features like all parameters.
    state = {name: value for name, value in params.items() if name.endswith("proj_matrix")} | to_torch(
        "sequence", params
    )
    naive_options = {"num_blocks": 1, "num_heads": 2, "act": None} | options
    kind = TASKS[task]
    expected = naive_model.forward(
        state, ids, mask, backend, naive_options, documents=kind.documents, token_level=kind.token_level
    )
    actual = np.asarray(jax.jit(apply_fn(graphdef))(params, ids, mask))
    assert actual.dtype == np.float32
    if mask is not None and kind.token_level:
        actual, expected = actual[np.asarray(mask)], expected[np.asarray(mask)]
    assert_close(f"{backend} {task}", actual, expected, 1e-5)


@pytest.mark.parametrize("case", ATTENTION)
def test_logits_of_every_backend(case):
    """Tokens with padding, rotary embeddings where there are any; and of one backend two blocks."""
    chosen = CASES[case]
    compare_with_numpy(
        chosen.backend,
        "match3",
        tokens(),
        None if chosen.padding == "refused" else trailing_mask(),
        pos_embed="rope" if chosen.rope else "sin",
        num_blocks=2 if case == "transformer" else 1,
        **chosen.options,
    )


@pytest.mark.parametrize(
    ("task", "masked", "options"),
    [
        ("listops", False, {"pool": "mean", "pos_embed": "abs", "rmsnorm": True}),
        ("listops", True, {"pool": "mean", "masked_pool": False}),
        ("text", True, {"pool": "max", "act": "silu", "pad_id": 7, "masked_pool": False, "zero_pad_embedding": False}),
        ("text", True, {"pool": "max", "pad_id": 2}),
        ("image", True, {"pool": "cls", "pos_embed": "abs"}),
        ("function_composition", True, {"pool": "cls", "pos_embed": "rope", "rope_mode": "reference"}),
        ("sudoku", False, {"pos_embed": "abs", "num_heads": 3}),
    ],
)
def test_logits_with_other_options(task, masked, options):
    compare_with_numpy("transformer", task, tokens(), trailing_mask() if masked else None, **options)


@pytest.mark.parametrize("options", [{"pool": "mean"}, {"pool": "cls", "pos_embed": "abs"}, {"masked_pool": False}])
def test_two_documents_per_sample(options):
    """Both have their own rows, mask and first token, and are joined before the head."""
    mask = trailing_mask((7, 9, 10, 11)).reshape(2, 2 * LENGTH)
    compare_with_numpy("transformer", "retrieval", tokens(n=2 * LENGTH), mask, **options)


def test_two_documents_must_be_complete():
    graphdef, params = model("transformer", "retrieval")
    with pytest.raises(ValueError, match="has 11 tokens but 2 documents of max_length 11 have 22; pad every document"):
        jax.eval_shape(apply_fn(graphdef), params, tokens())


def test_compressing_weights_count_the_first_token():
    """With a cls token linformer has one row more, whether or not its length is given."""
    for options in ({}, {"seq_len": 11}):
        _, params = model("linformer", "listops", pool="cls", k=3, **options)
        assert params["blocks.0.att.E_k"].shape == (12, 3)
    assert model("linformer", "listops", k=3)[1]["blocks.0.att.E_k"].shape == (11, 3)


@pytest.mark.parametrize("case", [name for name in MAIN_CASES if CASES[name].padding in ("removable", "inert")])
def test_ids_at_padding_do_not_matter_to_real_tokens(case):
    graphdef, params = model(CASES[case].backend, pad_id=VOCABULARY, **CASES[case].options)
    apply, mask = jax.jit(apply_fn(graphdef)), trailing_mask()
    y = apply(params, jnp.where(mask, tokens(), VOCABULARY), mask)
    assert_close("logits", apply(params, tokens(), mask)[np.asarray(mask)], y[np.asarray(mask)], 1e-6)


def test_the_padding_row_is_used_but_gets_no_gradient():
    for pad_id, rows in ((VOCABULARY, VOCABULARY + 1), (0, VOCABULARY + 1), (None, VOCABULARY)):
        graphdef, params = model("linear", pad_id=pad_id, zero_pad_embedding=False)
        ids = tokens().at[0, :3].set(0 if pad_id is None else pad_id)
        apply = jax.jit(apply_fn(graphdef))
        gradient = jax.jit(jax.grad(lambda params, ids: jnp.sum(apply_fn(graphdef)(params, ids) ** 2)))(params, ids)
        table = gradient["token_embedding.embedding"]
        assert table.shape == (rows, CHANNEL_DIM)
        without = [i for i in range(rows) if not np.asarray(table[i]).any()]
        unseen = set(range(rows)) - set(np.unique(np.asarray(ids)).tolist())
        assert set(without) == unseen | (set() if pad_id is None else {pad_id})
        if pad_id is not None:
            other = params | {"token_embedding.embedding": params["token_embedding.embedding"].at[pad_id].add(1.0)}
            assert rms_ratio(apply(other, ids), apply(params, ids)) > 1e-3


@functools.cache
def dropping_model():
    graphdef, params = model("transformer", "text", emb_drop=0.2, cls_drop=0.3, attn_drop=0.1, proj_drop=0.1)
    apply = apply_fn(graphdef)
    return jax.jit(lambda params, ids, key: apply(params, ids, None, key)), jax.jit(apply), params


def test_dropout_depends_on_the_key_and_on_nothing_else():
    dropped, apply, params = dropping_model()
    first = dropped(params, tokens(), jax.random.key(0))
    assert (np.asarray(dropped(params, tokens(), jax.random.key(0))) == np.asarray(first)).all()
    assert rms_ratio(dropped(params, tokens(), jax.random.key(1)), first) > 1e-2
    assert rms_ratio(apply(params, tokens()), first) > 1e-2


def test_dropout_of_each_kind_acts():
    for option in ("emb_drop", "cls_drop", "attn_drop", "proj_drop"):
        graphdef, params = model("transformer", "listops", **{option: 0.5})
        apply = jax.jit(apply_fn(graphdef))
        y = apply(params, tokens(), None, jax.random.key(0))
        assert rms_ratio(y, apply(params, tokens())) > 1e-2, option


@pytest.mark.parametrize("options", [{"pool": "cls", "pos_embed": "abs"}, {"pool": "max"}], ids=["cls", "max"])
def test_gradients_reach_embeddings_and_head(options):
    graphdef, params = model("transformer", "text", **options)
    grads = jax.jit(jax.grad(lambda params: jnp.sum(jnp.sin(apply_fn(graphdef)(params, tokens())))))(params)
    for name, grad in grads.items():
        assert np.isfinite(np.asarray(grad)).all(), name
        assert np.asarray(grad).any(), name


def test_bfloat16_is_close_and_returns_float32():
    for backend in ("transformer", "flare", "performer"):
        options = {"num_latents": 5} if backend == "flare" else {}
        graphdef, params = model(backend, "text", **options)
        half, _ = model(backend, "text", dtype="bfloat16", **options)
        y = jax.jit(apply_fn(half))(params, tokens())
        assert y.dtype == jnp.float32
        assert 1e-4 < rms_ratio(y, jax.jit(apply_fn(graphdef))(params, tokens())) < 5e-2, backend


@pytest.mark.parametrize("case", CASES)
def test_state_dict_round_trip(case):
    _, params = model(CASES[case].backend, "text", pool="cls", pos_embed="abs", pad_id=3, **CASES[case].options)
    state = to_torch("sequence", params)
    assert "token_emb.token_embed.weight" in state
    assert "cls_proj.2.0.weight" in state
    again = from_torch("sequence", params, state)
    assert list(again) == list(params)
    assert all((np.asarray(again[name]) == np.asarray(value)).all() for name, value in params.items())
    abstract = {name: jax.ShapeDtypeStruct(value.shape, value.dtype) for name, value in params.items()}
    if "blocks.0.att.proj_matrix" not in params:
        assert list(from_torch("sequence", abstract, state)) == list(params)
        return
    # The original does not save its random features: they come from the template, or from the state_dict if there.
    assert "blocks.0.att.proj_matrix" not in state
    with pytest.raises(ValueError, match=r"1 missing keys: blocks\.0\.att\.proj_matrix"):
        from_torch("sequence", abstract, state)
    rows = np.ones(params["blocks.0.att.proj_matrix"].shape, np.float32)
    stored = from_torch("sequence", params, state | {"blocks.0.att.proj_matrix": rows})
    assert (np.asarray(stored["blocks.0.att.proj_matrix"]) == 1).all()


def test_initial_distributions():
    options = {"channel_dim": 64, "num_heads": 4, "num_blocks": 2, "pool": "cls", "pos_embed": "abs", "pad_id": 500}
    built = build_sequence_model("transformer", "listops", 500, 10, options, rngs=ParameterKeys(0))
    params = split(built)[1]
    drawn = {name: np.ravel(v) for name, v in params.items() if name.endswith(("kernel", "embedding", "cls_token"))}
    assert len(drawn) == 12
    for name, values in drawn.items():
        assert abs(values.std() / 0.02 - 1) < 5 / np.sqrt(2 * values.size), name
    assert len({values[0] for values in drawn.values()}) == len(drawn)
    assert all(not np.asarray(v).any() for name, v in params.items() if name.endswith("bias"))
    assert all((np.asarray(v) == 1).all() for name, v in params.items() if name.endswith("scale"))
    # The padding row is as random as the others.
    assert np.asarray(params["token_embedding.embedding"][500]).any()
    sinusoidal = split(build_sequence_model("linear", "listops", 5, 2, {"channel_dim": 64}, rngs=ParameterKeys(0)))[1]
    assert float(sinusoidal["positions.pos_scale"]) == 0.125


def test_the_padding_row_counts_as_zero_unless_asked_otherwise():
    graphdef, params = model("linear", pad_id=VOCABULARY)
    ids = tokens().at[0, :3].set(VOCABULARY)
    zero = params | {"token_embedding.embedding": params["token_embedding.embedding"].at[VOCABULARY].set(0.0)}
    apply = jax.jit(apply_fn(graphdef))
    assert_close("zero row", apply(params, ids), apply(zero, ids), 0.0)


def construct(*arguments):
    return SequenceModel(
        *arguments,
        SequenceConfig(),
        backend="transformer",
        blocks=SelfAttentionConfig(num_heads=4),
        rngs=ParameterKeys(0),
    )


def test_defaults_and_direct_construction():
    built = nnx.eval_shape(lambda: construct("text", 20, 1))
    assert (len(built.blocks), built.blocks[0].att.num_heads, built.max_length) == (4, 4, 256)
    graphdef, params = split(built)
    y = jax.eval_shape(apply_fn(graphdef), params, jax.ShapeDtypeStruct((3, 256), "int32"))
    assert (y.shape, y.dtype) == ((3, 1), "float32")
    own_task = TaskKind(token_level=True, mlp_head=True)
    labels = jax.eval_shape(lambda ids: construct(own_task, 20, 5)(ids), tokens())
    assert labels.shape == (2, LENGTH, 5)


@pytest.mark.parametrize(
    ("ids", "mask", "message"),
    [
        (jnp.ones((2, 5)), None, r"input_ids has shape \(2, 5\) and dtype float32 but must be integers"),
        (jnp.ones(5, int), None, r"input_ids has shape \(5,\)"),
        (jnp.ones((2, 0), int), None, r"input_ids has shape \(2, 0\), so there is no token in it"),
        (jnp.ones((2, 5), int), jnp.ones((2, 5)), "mask has .* dtype float32 but must be bool"),
        (jnp.ones((2, 5), int), jnp.ones((2, 4), bool), r"mask has shape \(2, 4\)"),
    ],
)
def test_bad_inputs(ids, mask, message):
    with pytest.raises(ValueError, match=message):
        check_tokens(ids, mask)


@pytest.mark.parametrize("pos_embed", ["abs", "rope"])
def test_sequences_longer_than_the_positions(pos_embed):
    graphdef, params = model("transformer", pos_embed=pos_embed)
    with pytest.raises(ValueError, match=r"the sequence has 12 tokens but .* 11; shorten it or build the model with a"):
        jax.eval_shape(apply_fn(graphdef), params, tokens(n=12))

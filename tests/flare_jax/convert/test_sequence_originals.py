"""Constructor arguments of the original sequence models: what they mean, and what they do not."""

import pytest
from flax import nnx

from flare_jax.convert.sequence_originals import SEQUENCE_ORIGINALS, translate_sequence_arguments
from flare_jax.models.sequence import BACKENDS, build_sequence_model
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import split

SMALL = {"task": "match3", "vocab_size": 7, "num_labels": 3, "max_length": 9, "num_blocks": 1, "channel_dim": 16}
FLARE = {"num_latents": 4, "kv_proj_hidden_dim": 16, "ffn_hidden_dim": 16}
FEED_FORWARD = ("transformer", "linformer", "linear", "performer", "ema", "triple1", "third_order")


def translate(backend, wrapper="ModelWrapper", **arguments):
    return translate_sequence_arguments(wrapper, backend, SMALL | (FLARE if backend == "flare" else {}) | arguments)


def build(backend, wrapper="ModelWrapper", **arguments):
    """Return the model, without values of its parameters, and the shapes of these by name."""
    model_type, *sizes, options = translate(backend, wrapper, **arguments)
    built = nnx.eval_shape(
        lambda: build_sequence_model(backend, *sizes, options, model_type=model_type, rngs=ParameterKeys(0))
    )
    return built, {name: leaf.shape for name, leaf in split(built)[1].items()}


def test_every_backend_has_an_original():
    assert set(SEQUENCE_ORIGINALS) == set(BACKENDS)


@pytest.mark.parametrize("wrapper", ["ModelWrapper", "TRMWrapper"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_arguments_that_all_blocks_take(backend, wrapper):
    """Dropout rates are accepted by all, and have no effect where the original has none."""
    built, _ = build(backend, wrapper, num_heads=2, rmsnorm=True, act="gelu", attn_drop=0.1, proj_drop=0.2)
    assert len(built.blocks) == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_unknown_activations_are_silu_in_feed_forward_parts_and_errors_elsewhere(backend):
    if backend in FEED_FORWARD:
        assert translate(backend, act="relu")[-1]["act"] == "silu"
        assert build(backend, act="relu")[1] == build(backend, act="silu")[1]
    else:
        with pytest.raises(ValueError, match="act is 'relu'"):
            build(backend, act="relu")
    for act in (None, "gelu", "silu"):
        assert translate(backend, act=act)[-1]["act"] == act
    assert "act" not in translate(backend)[-1]


def test_gated_feed_forward_parts():
    assert build("triple1", act="swiglu")[1]["blocks.0.mlp.fc2.kernel"] == (32, 16)
    assert translate("transformer", act="swiglu")[-1]["act"] == "silu"


def test_token_level_tasks_ignore_the_pooling():
    for wrapper in ("ModelWrapper", "TRMWrapper"):
        for pool in ("cls", "none", None):
            assert "cls_token" not in build("transformer", wrapper, pool=pool)[1]
    with pytest.raises(ValueError, match="pool is 'none'"):
        build("transformer", task="listops", pool="none")


def test_the_recursive_model_joins_no_documents():
    for task in ("retrieval", "text"):
        shapes = build("transformer", "TRMWrapper", task=task, pool="max")[1]
        assert shapes["head.fc.kernel"] == (16, 3)
    assert build("transformer", task="retrieval")[1]["head.fc.kernel"] == (32, 3)


@pytest.mark.parametrize("width", [8, 12, 30, 64, 96, 100])
def test_hidden_widths_are_exact(width):
    for hidden in range(1, 4 * width):
        arguments = {"num_heads": 2, "channel_dim": width, "kv_proj_hidden_dim": hidden, "ffn_hidden_dim": hidden}
        options = translate("flare", **arguments)[-1]
        assert int(width * options["kv_proj_mlp_ratio"]) == int(width * options["ffn_mlp_ratio"]) == hidden


def test_names_of_the_recursion():
    options = translate("linear", "TRMWrapper", trm_N_steps=2, trm_n=3, trm_T=4)[-1]
    assert (options["num_steps"], options["num_latent_updates"], options["num_recursions"]) == (2, 3, 4)


def test_third_order_methods():
    assert translate("third_order", attn_drop=0.1)[-1]["ignore_mask"]
    strassen = translate("third_order", third_order_method="strassen", attn_drop=0.1)[-1]
    assert strassen["reference_epsilon"]
    assert strassen["attn_drop"] == 0.1


@pytest.mark.parametrize(
    ("wrapper", "backend", "arguments", "message"),
    [
        ("Wrapper", "linear", {}, "wrapper is 'Wrapper'"),
        ("ModelWrapper", "lineer", {}, "backend is 'lineer' .did you mean 'linear'"),
        ("ModelWrapper", "linear", {"task": "sum"}, "task is 'sum'"),
    ],
)
def test_errors(wrapper, backend, arguments, message):
    with pytest.raises(ValueError, match=message):
        translate(backend, wrapper, **arguments)
    with pytest.raises(ValueError, match="lack 'num_labels'; add it to task, vocab_size"):
        translate_sequence_arguments("ModelWrapper", "linear", {"task": "text", "vocab_size": 3})

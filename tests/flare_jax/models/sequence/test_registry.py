"""Building sequence models by name: every bad option is one sentence with the value and the remedy."""

import pytest
from flax import nnx

from flare_jax.models.sequence import BACKENDS, SEQUENCE_MODELS, TASKS, SequenceModel, build_sequence_model
from flare_jax.models.sequence.tasks import find_task
from flare_jax.parameter_keys import ParameterKeys


def build(backend="transformer", task="listops", vocab_size=7, num_labels=3, dtype="float32", **options):
    """Return a small model without values of its parameters."""
    small = {"num_blocks": 1, "channel_dim": 16, "num_heads": 2, "max_length": 9}
    return nnx.eval_shape(
        lambda: build_sequence_model(
            backend, task, vocab_size, num_labels, small | options, dtype=dtype, rngs=ParameterKeys(0)
        )
    )


def test_options_go_to_the_model_and_to_the_backend():
    built = build("linear", pool="max", kernel="relu", norm_q=True, mlp_ratio=2)
    assert type(built) is SequenceModel
    assert built.pool == "max"
    assert built.blocks[0].att.norm_q
    assert built.blocks[0].mlp.fc1.kernel.shape == (16, 32)


def test_the_length_that_a_backend_needs_comes_from_the_model():
    assert build("linformer").blocks[0].att.E_k.shape == (9, 256)
    assert build("linformer", seq_len=12, k=3).blocks[0].att.E_v.shape == (12, 3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_is_built_with_its_defaults(backend):
    options = {"num_latents": 4} if backend == "flare" else {}
    assert len(build(backend, num_blocks=2, **options).blocks) == 2


@pytest.mark.parametrize(("backend", "heads"), [("transformer", 2), ("linear", 2), ("performer", 2), ("flare", 4)])
def test_default_number_of_heads(backend, heads):
    options = {"num_latents": 4} if backend == "flare" else {}
    assert build(backend, channel_dim=32, num_heads=None, **options).blocks[0].att.num_heads == heads


def test_tasks():
    kinds = {name: (kind.token_level, kind.documents, kind.mlp_head) for name, kind in TASKS.items()}
    assert kinds["match3"] == kinds["sudoku"] == (True, 1, False)
    assert kinds["retrieval"] == (False, 2, False)
    assert kinds["pathfinder128"] == kinds["image"] == kinds["text"] == (False, 1, True)
    assert kinds["mta-toy"] == kinds["function_composition"] == (False, 1, False)
    assert find_task(TASKS["text"]) is TASKS["text"]


def test_models_are_described():
    assert "sequence" in SEQUENCE_MODELS
    assert all(entry.constructor.__doc__ for entry in SEQUENCE_MODELS.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backend": "transformers"}, "backend is 'transformers' .did you mean 'transformer'.. but must be one of"),
        ({"task": "listop"}, "task is 'listop' .did you mean 'listops'"),
        ({"kernel": "elu"}, "a sequence model of backend 'transformer' has no option 'kernel'.*its options are"),
        (
            {"backend": "flare"},
            "a sequence model of backend 'flare' needs the option 'num_latents', which has no default",
        ),
        ({"mlp_ratio": "2"}, "mlp_ratio is '2' but"),
        ({"pool": "average"}, "pool is 'average'.* but must be one of 'mean', 'max', 'cls'"),
        (
            {"pos_embed": "sine"},
            "pos_embed is 'sine' .did you mean 'sin'.. but must be one of 'sin', 'abs', 'rope'",
        ),
        ({"rope_mode": "split"}, "rope_mode is 'split'"),
        (
            {"backend": "linear_no", "pos_embed": "rope"},
            "pos_embed is 'rope' but backend 'linear_no' has no rotary emb",
        ),
        ({"pos_embed": "rope", "num_heads": 16}, "the head width is 1 but rotary embeddings need an even one"),
        ({"channel_dim": 15, "num_heads": 3}, "channel_dim is 15 but sinusoidal positions need an even width"),
        ({"num_heads": 3}, "num_heads 3 does not divide channel_dim 16; choose num_heads among 1, 2, 4, 8, 16"),
        ({"num_blocks": 0}, "num_blocks is 0 but must be an integer of at least 1"),
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"num_labels": 0}, "num_labels is 0"),
        ({"max_length": 0}, "max_length is 0"),
        ({"pad_id": 8}, "pad_id is 8 but the last row of the embedding is 7"),
        ({"emb_drop": 1.0}, r"emb_drop is 1\.0 but must be a number of at least 0 and below 1"),
        ({"cls_drop": -0.5}, r"cls_drop is -0\.5"),
        ({"backend": "linear", "attn_drop": 0.1}, "linear attention has no attention probabilities to drop"),
        ({"backend": "linformer", "seq_len": 0}, "seq_len is 0 but must be an integer of at least 1"),
        ({"act": "relu"}, "act is 'relu'"),
        ({"dtype": "float16"}, "dtype is 'float16' but must be one of float32, bfloat16"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message) as raised:
        build(**arguments)
    assert "\n" not in str(raised.value)

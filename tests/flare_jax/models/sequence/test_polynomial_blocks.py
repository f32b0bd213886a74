"""What is particular to the backends with polynomial states, of third order and with moving averages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flare_jax.models.sequence import BACKENDS, block_config, build_sequence_model
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import apply_fn, split
from tests.flare_jax.models.sequence.cases import block, features, trailing_mask
from tests.numerics import assert_close

STATES = ("multilinear", "strassen", "triple", "triple1", "quad")


@pytest.mark.parametrize("case", [*STATES, "third_order", "third_order_strassen"])
def test_padding_that_holds_nan_does_not_reach_real_tokens(case):
    graphdef, params = block(case)
    apply, mask = jax.jit(apply_fn(graphdef)), np.asarray(trailing_mask())
    poisoned = apply(params, jnp.where(mask[..., None], features(), jnp.nan), mask)
    assert_close("real tokens", poisoned[mask], apply(params, features(), mask)[mask], 1e-6)


@pytest.mark.parametrize("case", STATES)
def test_the_number_of_padded_tokens_matters_by_the_epsilon_of_the_norm_only(case):
    """States are divided by the padded length, which the norm undoes; large features make its epsilon negligible."""
    graphdef, params = block(case)
    params = {name: 5 * value if "v" in name.split(".")[1][:1] else value for name, value in params.items()}
    apply = jax.jit(apply_fn(graphdef))
    padded = apply(params, features(), trailing_mask((7, 7)))
    assert_close("padded", padded[:, :7], apply(params, features()[:, :7]), 1e-2)


@pytest.mark.parametrize("backend", STATES)
def test_long_sequences_need_no_matrix_of_pairs(backend):
    """Forward and backward at N = 16384 take less than a fifth of one N × N matrix."""
    n = 16384
    options = {"mlp_ratio": 1.0} if backend == "triple1" else {"ffn_mlp_ratio": 1.0, "norm_k": True}
    options |= {"max_length": n, "channel_dim": 16, "num_heads": 2, "num_blocks": 1}
    graphdef, params = split(build_sequence_model(backend, "listops", 8, 3, options, rngs=ParameterKeys(0)))
    ids = jax.random.randint(jax.random.key(1), (1, n), 0, 8)
    gradients = jax.grad(lambda params: jnp.sum(apply_fn(graphdef)(params, ids) ** 2))
    compiled = jax.jit(gradients).lower(params).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < n * n * 4 / 5
    assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(compiled(params)))


def build(backend, width, **options):
    return BACKENDS[backend].constructor(width, block_config(backend, options, max_length=9), rngs=ParameterKeys(0))


def test_strassen_gates_start_closed():
    """The norm then receives zeros: it returns its bias and multiplies the gradient of the gates by 1/√epsilon."""
    graphdef, params = split(build("strassen", 12, num_heads=2).att)
    assert all(not np.asarray(params[f"g{i}"]).any() for i in range(1, 5))
    params["norm.bias"] = jnp.arange(12.0)

    @jax.jit
    def evaluate(params, x):
        y, pull_back = jax.vjp(apply_fn(graphdef), params, x)
        return y, pull_back(jnp.ones_like(y))[0]

    y, gradients = evaluate(params, features())
    assert_close("bias", y[0, 0], np.arange(12.0) @ np.asarray(params["out_proj.kernel"]), 1e-6)
    assert np.isfinite(np.asarray(gradients["g4"])).all()


def test_triple1_has_swiglu_in_its_feed_forward_part_only():
    built = build("triple1", 12, num_heads=2, act="swiglu", mlp_ratio=2.0)
    assert (built.mlp.fc1.kernel.shape, built.mlp.fc2.kernel.shape) == ((12, 24), (12, 12))
    assert built.att.q1_proj.activation == "gelu_tanh"
    assert len(built.att.q1_proj.fcs) == 3


def test_heads_default_to_width_16():
    assert build("triple", 48).att.num_heads == 3


@pytest.mark.parametrize(
    ("backend", "options", "message"),
    [
        ("multilinear", {"num_states": 0}, "num_states is 0 but must be an integer of at least 1"),
        ("multilinear", {"kernel": "eluu"}, "kernel is 'eluu' .did you mean 'elu'"),
        (
            "strassen",
            {"attn_drop": 0.1},
            "attn_drop is 0.1 but attention through a state has no attention probabilities",
        ),
        ("triple", {"qk_dim_ratio": 0.01, "kernel": "swiglu"}, "qk_dim_ratio 0.01 leaves no feature"),
        ("triple", {"num_layers_kv_proj": -2}, "num_layers_kv_proj is -2"),
        ("triple1", {"act": "swiglu", "mlp_ratio": 0.2}, "act 'swiglu' halves the hidden vector but its width is 3"),
        ("triple1", {"act": "relu"}, "act is 'relu'"),
        ("quad", {"num_layers_ffn": -3}, "num_layers_ffn is -3"),
        ("quad", {"ffn_mlp_ratio": 0.01}, "ffn_mlp_ratio 0.01 makes a hidden width below 1"),
        ("quad", {"num_heads": 3}, "num_heads 3 does not divide channel_dim 16"),
        ("third_order", {"third_order_method": "triangle"}, "third_order_method is 'triangle' but must be one of"),
        ("third_order", {"attn_drop": 0.2}, "attn_drop is 0.2 but third_order_method 'third_order' has no"),
        ("third_order", {"reference_epsilon": True}, "reference_epsilon is True but third_order_method"),
        ("ema", {"proj_drop": 1.0}, "proj_drop is 1.0 but must be a number of at least 0 and below 1"),
        ("ema", {"ema_impl": "fft"}, "ema_impl is 'fft' but must be one of 'scan'"),
    ],
)
def test_bad_options(backend, options, message):
    with pytest.raises(ValueError, match=message) as raised:
        build(backend, 16, **({"num_heads": 2} | options))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("backend", [*STATES, "ema", "third_order"])
def test_rotary_embeddings_are_refused(backend):
    with pytest.raises(ValueError, match=f"pos_embed is 'rope' but backend '{backend}' has no rotary embeddings"):
        build_sequence_model(backend, "listops", 8, 3, {"pos_embed": "rope", "num_heads": 1}, rngs=ParameterKeys(0))

"""Causal softmax attention: through cuDNN's kernels, which serve by name and where they are measured, and without."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flare_jax.mixers import attention
from flare_jax.mixers import causal_attention as mixer
from flare_jax.mixers.causal_attention import cached_attention, causal_attention
from flare_jax.models.language import build_language_model, size_options
from kernels import _cudnn
from tests.flare_jax.mixers.test_fused_attention import assert_same, random_qkv
from tests.numerics import assert_close

HALF = [jnp.zeros((2, 640, 2, 16), jnp.bfloat16)] * 3
POSITIONS = jnp.array([[0], [6]])


def value_and_gradients(q, k, v):
    def total(q, k, v):
        y = causal_attention(q, k, v, None, scale=0.6)
        return jnp.sum(y.astype(jnp.float32) * jnp.cos(jnp.arange(y.size).reshape(y.shape))), y

    (_, y), gradients = jax.value_and_grad(total, argnums=(0, 1, 2), has_aux=True)(q, k, v)
    return [y, *gradients]


def reading(dtype, implementation, keys=640):
    q, k, v = (x.astype(dtype) for x in random_qkv(keys, width=16))
    positions = jnp.array([[0], [keys - 3]])
    return jax.jit(partial(cached_attention, scale=0.6, implementation=implementation))(q[:, :1], k, v, positions)


@pytest.mark.gpu
@pytest.mark.parametrize("points", [640, 1001])
def test_cudnn_agrees_with_the_plain_form(points):
    q, k, v = random_qkv(points, width=16)
    half = [x.astype(jnp.bfloat16) for x in (q, k, v)]
    assert_same(jax.jit(value_and_gradients)(*half), jax.jit(value_and_gradients)(q, k, v), 1e-2)


@pytest.mark.gpu
def test_cudnn_reads_a_cache_as_the_plain_form_does():
    assert_close("y", reading(jnp.bfloat16, "cudnn"), reading(jnp.float32, "xla"), 1e-2)


def test_a_cache_is_read_up_to_the_token_itself(monkeypatch):
    """The lengths that the kernel gets, through XLA's attention with lengths."""
    monkeypatch.setattr(_cudnn, "IMPLEMENTATION", "xla")
    monkeypatch.setattr(attention, "platform", lambda: "cuda")
    monkeypatch.setattr(attention, "_capability", lambda: "9.0")
    assert_close("y", reading(jnp.bfloat16, "cudnn", 9), reading(jnp.float32, "xla", 9), 1e-2)


def test_a_kernel_that_is_not_measured_is_not_chosen(monkeypatch):
    monkeypatch.setattr(attention, "platform", lambda: "cuda")
    monkeypatch.setattr(attention, "_capability", lambda: "9.0")
    called = []
    for name in ("fused_attention", "fused_reading"):

        def fused(q, *arrays, name=name, **options):
            called.append(name)
            return q

        monkeypatch.setattr(mixer, name, fused)
    q, k, v = HALF
    reads = partial(cached_attention, q[:, :1], k, v, POSITIONS, scale=1.0)
    jax.eval_shape(reads)
    jax.eval_shape(lambda: causal_attention(*(x[:, :64] for x in HALF), None, scale=1.0))
    assert called == []
    jax.eval_shape(lambda: causal_attention(*HALF, None, scale=1.0))
    jax.eval_shape(partial(reads, implementation="cudnn"))
    assert called == ["fused_attention", "fused_reading"]


def test_a_decoder_names_the_kernel_of_its_cache():
    def decoder(dtype, **options):
        options = {**size_options("causal_attention", "recall32"), "decode_implementation": "cudnn", **options}
        return build_language_model("causal_attention", 16, options, dtype=dtype, rngs=nnx.Rngs(0))

    with pytest.raises(ValueError, match=r"^decode_implementation 'cudnn' takes float16 or bfloat16, not float32"):
        decoder("float32")
    with pytest.raises(ValueError, match="decode_implementation is 'flash' but must be one of 'xla', 'cudnn'"):
        decoder("bfloat16", decode_implementation="flash")
    model = decoder("bfloat16")
    state = jax.jit(lambda tokens: model.prefill(tokens, model.init_state(1, 8))[1])(jnp.ones((1, 4), jnp.int32))
    np.testing.assert_array_equal(state.position, [4])
    if jax.default_backend() != "gpu":
        with pytest.raises(ValueError, match="implementation 'cudnn' needs an NVIDIA GPU, and this is a cpu"):
            model.decode_step(jnp.ones(1, jnp.int32), state)
    q, k, v = HALF
    with pytest.raises(ValueError, match="reads a cache by one token of a row, not 640; use 'xla'"):
        cached_attention(q, k, v, jnp.zeros(q.shape[:2], jnp.int32), scale=1.0, implementation="cudnn")

"""The one place that calls cuDNN's fused attention, for 16-bit types on NVIDIA GPUs."""

import jax
import jax.numpy as jnp

# A module constant, so that tests can run what calls it through XLA's attention on a machine without a GPU.
IMPLEMENTATION = "cudnn"


def fused_attention(
    query: jax.Array, key: jax.Array, value: jax.Array, *, scale: float, causal: bool = False
) -> jax.Array:
    """Return `softmax(scale · query keyᵀ) value` per head, `[B, T, H, D]` for key and value `[B, S, H, D]`.

    With `causal` a query sees the keys up to its own row. JAX differentiates the kernel for even lengths only: an odd
    one gets one more row, which its length then hides.
    """
    rows, keys = query.shape[1], key.shape[1]
    lengths = {}
    if rows % 2 or keys % 2:
        query, key, value = (_pad_to_even(x) for x in (query, key, value))
        sizes = {"query_seq_lengths": rows, "key_value_seq_lengths": keys}
        lengths = {name: jnp.full(query.shape[0], size, jnp.int32) for name, size in sizes.items()}
    y = jax.nn.dot_product_attention(
        query, key, value, scale=scale, is_causal=causal, implementation=IMPLEMENTATION, **lengths
    )
    return y[:, :rows]


def fused_reading(query: jax.Array, key: jax.Array, value: jax.Array, lengths: jax.Array, *, scale: float) -> jax.Array:
    """Return attention of queries `[B, T, H, D]` to the first `lengths` `[B]` keys of a sample; no gradients."""
    rows = jnp.full(query.shape[0], query.shape[1], jnp.int32)
    return jax.nn.dot_product_attention(
        query,
        key,
        value,
        scale=scale,
        query_seq_lengths=rows,
        key_value_seq_lengths=lengths,
        implementation=IMPLEMENTATION,
    )


def _pad_to_even(x: jax.Array) -> jax.Array:
    return jnp.pad(x, [(0, 0), (0, x.shape[1] % 2), (0, 0), (0, 0)])

"""Work on a sequence in chunks of tokens, which the backward pass recomputes, to bound the memory of intermediates."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped


def sum_over_chunks(
    body: Callable[..., Array], arrays: Sequence[Shaped[Array, "B N ..."]], count: int
) -> Shaped[Array, "..."]:
    """Return the sum of `body(*chunk)` over `count` chunks of tokens (at most N).

    The last chunk is filled with zeros, for which the body must return zero.
    """
    count = min(count, arrays[0].shape[1])
    if count == 1:
        return body(*arrays)
    body = jax.checkpoint(body)
    chunks = [_split(x, count) for x in arrays]
    total = jax.eval_shape(body, *(x[0] for x in chunks))
    start = jnp.zeros(total.shape, total.dtype)
    return jax.lax.scan(lambda sum_, chunk: (sum_ + body(*chunk), None), start, chunks)[0]


def map_over_chunks(
    body: Callable[..., Array], arrays: Sequence[Shaped[Array, "B N ..."]], count: int
) -> Shaped[Array, "B N ..."]:
    """Return the results [B, N / count, ...] of `body(*chunk)` for `count` chunks (at most N), put together again."""
    points = arrays[0].shape[1]
    count = min(count, points)
    if count == 1:
        return body(*arrays)
    body = jax.checkpoint(body)
    y = jax.lax.map(lambda chunk: body(*chunk), [_split(x, count) for x in arrays])
    return jnp.moveaxis(y, 0, 1).reshape(y.shape[1], -1, *y.shape[3:])[:, :points]


def _split(x: Array, count: int) -> Array:
    """Return x [B, N, ...] as [count, B, N / count, ...], filled up with zeros."""
    padding = [(0, 0)] * x.ndim
    padding[1] = (0, -x.shape[1] % count)
    return jnp.moveaxis(jnp.pad(x, padding).reshape(x.shape[0], count, -1, *x.shape[2:]), 1, 0)

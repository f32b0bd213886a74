"""The contractions of triple attention in chunks of points: memory O(N) on any device."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from kernels._target import Target
from kernels.triple_attention import table


def _operand(target: Target, x: jax.Array, dtype: jnp.dtype | None = None) -> jax.Array:
    """Return a factor of a product in the dtype it is multiplied in, for inputs of `dtype` (default that of x).

    A CPU has no products of bfloat16 with float32 sums, and float16 can hold neither the product of two large inputs
    nor a small state.
    """
    half = (dtype or x.dtype) == jnp.bfloat16 and target.platform != "cpu"
    return x.astype(jnp.bfloat16 if half else jnp.float32)


def _einsum(subscripts: str, *factors: jax.Array) -> jax.Array:
    """Contract with float32 sums; float32 factors are multiplied as float32, never as TF32."""
    return jnp.einsum(subscripts, *factors, precision="highest", preferred_element_type=jnp.float32)


def _accumulate(target: Target, a: jax.Array, b: jax.Array, x: jax.Array) -> jax.Array:
    pairs = _operand(target, a)[..., :, None] * _operand(target, b)[..., None, :]
    return _einsum("bnhil,bnhj->bhijl", pairs, _operand(target, x))


def _read(target: Target, state: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    products = _einsum("bnhi,bhijl->bnhjl", _operand(target, a), state)
    return jnp.sum(products * b[..., None, :].astype(jnp.float32), axis=-1).astype(a.dtype)


def _pair(target: Target, state: jax.Array, x: jax.Array, a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    products = _einsum("bnhj,bhijl->bnhil", _operand(target, x), state)
    da = jnp.sum(products * b[..., None, :].astype(jnp.float32), axis=-1)
    db = jnp.sum(products * a[..., :, None].astype(jnp.float32), axis=-2)
    return da.astype(a.dtype), db.astype(a.dtype)


@dataclass(frozen=True)
class _Chunks:
    """`count` chunks of points: chunk c holds the points c, c + count, c + 2 count, ...

    A chunk is a slice along an axis that is never sharded, so that points which lie sharded over a mesh stay where they
    are. Points are padded with zeros, which are neutral in every contraction, to a multiple of `count`.
    """

    count: int

    def _strided(self, x: jax.Array) -> jax.Array:
        missing = -x.shape[1] % self.count
        if missing:
            x = jnp.pad(x, ((0, 0), (0, missing), (0, 0), (0, 0)))
        return x.reshape(x.shape[0], -1, self.count, *x.shape[2:])

    def sum(self, body: Callable[..., jax.Array], arrays: Sequence[jax.Array]) -> jax.Array:
        """Return the sum of `body(*chunk)` over all chunks, in order."""
        if self.count == 1:
            return body(*arrays)
        strided = [self._strided(x) for x in arrays]

        def chunk(index: jax.Array | int) -> jax.Array:
            return body(*(jax.lax.dynamic_index_in_dim(x, index, 2, keepdims=False) for x in strided))

        shape = jax.eval_shape(chunk, 0).shape
        start = jnp.zeros(shape, jnp.float32)
        return jax.lax.fori_loop(0, self.count, lambda index, total: total + chunk(index), start)

    def map(
        self, body: Callable[..., jax.Array | tuple[jax.Array, ...]], arrays: Sequence[jax.Array]
    ) -> jax.Array | tuple[jax.Array, ...]:
        """Return `body(*chunk)` of all chunks, put together again along the points."""
        if self.count == 1:
            return body(*arrays)
        points = arrays[0].shape[1]
        strided = [self._strided(x) for x in arrays]

        def chunk(index: jax.Array) -> jax.Array | tuple[jax.Array, ...]:
            return body(*(jax.lax.dynamic_index_in_dim(x, index, 2, keepdims=False) for x in strided))

        outputs = jax.lax.map(chunk, jnp.arange(self.count))
        outputs = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 2), outputs)
        return jax.tree.map(lambda x: x.reshape(x.shape[0], -1, *x.shape[3:])[:, :points], outputs)


@dataclass(frozen=True)
class ChunkedContractions:
    """Contractions that hold about `table.chunk_elements` elements of `[N, D, D]` at once."""

    target: Target

    def _chunks(self, shape: tuple[int, ...], channels: int) -> _Chunks:
        """Choose a power of two, so that the usual point counts divide by it."""
        batch, points, heads, width = shape
        wanted = -(-batch * points * heads * width * max(width, channels) // table.chunk_elements(self.target))
        return _Chunks(min(2 ** math.ceil(math.log2(wanted)), points))

    def accumulate(self, a: jax.Array, b: jax.Array, x: jax.Array) -> jax.Array:
        """See `Contractions.accumulate`."""
        return self._chunks(a.shape, x.shape[-1]).sum(functools.partial(_accumulate, self.target), (a, b, x))

    def read(self, a: jax.Array, b: jax.Array, state: jax.Array) -> jax.Array:
        """See `Contractions.read`."""
        body = functools.partial(_read, self.target, _operand(self.target, state, a.dtype))
        return self._chunks(a.shape, state.shape[3]).map(body, (a, b))

    def pair(self, x: jax.Array, a: jax.Array, b: jax.Array, state: jax.Array) -> tuple[jax.Array, jax.Array]:
        """See `Contractions.pair`."""
        body = functools.partial(_pair, self.target, _operand(self.target, state, a.dtype))
        return self._chunks(a.shape, x.shape[-1]).map(body, (x, a, b))

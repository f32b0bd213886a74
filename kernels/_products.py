"""Contractions in plain XLA that are differentiated by JAX."""

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from kernels._sharding import is_cut

# Contracts float32 or narrower arrays by subscripts.
Einsum = Callable[..., jax.Array]

# Parts of a gradient of a matrix that fill an accelerator: two programs, a tile of the matrix each, per processor.
_PROGRAMS, _TILE = 264, 64
# Shorter sums over rows are not worth the addition of their results.
_FEWEST_ROWS = 128
# A narrow gradient is a few tiles, which a library's float32 product may leave to a few processors where its algorithms
# are not tried: one copy, too, has parts then, where the rows are many. 131 072 rows, 384 x 6, on one H200: 5.0 ms, in
# parts 0.18; where they are tried 0.061 and 0.063. Up to so many devices may share an axis of the rows.
_NARROW, _MANY_ROWS, _SHARING = 16, 2**16, 8
# Caches of traced programs see it; see `kernels._array_code`.
_COPIES = jax.make_user_context(1)


@contextmanager
def side_by_side(copies: int) -> Iterator[None]:
    """Trace what is within for so many copies that `jax.vmap` computes in the same operations of an accelerator."""
    with _COPIES(copies):
        yield


def copies_side_by_side() -> int:
    """Return how many copies `side_by_side` announces, 1 without."""
    return _COPIES.value


def float32_einsum(exact: bool, subscripts: str, *operands: jax.Array) -> jax.Array:
    """Contract in float32; without `exact` as TF32 where there is such a thing, which numbers of bfloat16 fit into."""
    precision = "highest" if exact else "default"
    return jnp.einsum(subscripts, *(x.astype(jnp.float32) for x in operands), precision=precision)


def times_matrix(x: jax.Array, matrix: jax.Array, precision: Any = None, dtype: DTypeLike | None = None) -> jax.Array:
    """Return `x @ matrix` for rows x `[..., C]` and a matrix `[C, E]` of one dtype, in `dtype` if given.

    The matrix's gradient is a sum over all rows. Of one float32 product libraries cut that into parts which fill the
    device, unless it is narrow, of a batch of them they do not: narrow matrices, and copies that run side by side, are
    given the parts here. Raises ValueError where their widths differ.
    """
    if matrix.ndim != 2 or x.ndim == 0 or x.shape[-1] != matrix.shape[0]:
        raise ValueError(
            f"x has shape {x.shape} and the matrix {matrix.shape}; give rows [..., C] and a matrix [C, E]."
        )
    parts = _parts(x.shape, matrix.shape, copies_side_by_side())
    if parts is None or x.dtype != jnp.float32 or is_cut(x):
        return jnp.matmul(x, matrix, precision=precision, preferred_element_type=dtype)
    return _times_in_parts(x, matrix, parts, precision)


def _parts(shape: tuple[Any, ...], matrix: tuple[int, int], copies: int) -> tuple[int, ...] | None:
    """Return the shape of rows `[..., C]` in parts, None where their gradient is one sum, as of rows of any number."""
    if not all(isinstance(size, int) for size in shape):
        return None
    if copies == 1:
        return narrow_parts(shape, matrix)
    parts = parts_of_rows(math.prod(shape[:-1]), matrix, copies)
    return None if parts == 1 else (parts, -1, shape[-1])


def narrow_parts(shape: tuple[int, ...], matrix: tuple[int, int]) -> tuple[int, ...] | None:
    """Return the shape `[..., parts, rows, C]` in which one copy sums up the gradient of a narrow matrix, or None.

    Axes stay apart, and parts of the last one are a multiple of eight, so that devices which share them share no more.
    One of few rows, such as that of heads, is taken together with those before it: a part has a gradient of its own.
    """
    rows = math.prod(shape[:-1])
    if min(matrix) > _NARROW or rows < _MANY_ROWS:
        return None
    *leading, length, width = shape
    while length < _FEWEST_ROWS and leading:
        length *= leading.pop()
    most = min(_PROGRAMS // (_tiles(matrix) * (rows // length)), length // _FEWEST_ROWS)
    parts = next((x for x in range(most // _SHARING * _SHARING, 0, -_SHARING) if length % x == 0), 1)
    return None if parts * (rows // length) == 1 else (*leading, parts, length // parts, width)


def parts_of_rows(rows: int, shape: tuple[int, int], copies: int) -> int:
    """Return in how many equal parts the sum over rows of a gradient `[C, E]` is made by each of several copies."""
    if copies == 1:
        return 1
    tiles = copies * _tiles(shape)
    most = min(_PROGRAMS // tiles, rows // _FEWEST_ROWS)
    return next((parts for parts in range(most, 1, -1) if rows % parts == 0), 1)


def _tiles(matrix: tuple[int, int]) -> int:
    return -(-matrix[0] // _TILE) * -(-matrix[1] // _TILE)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _times_in_parts(x: jax.Array, matrix: jax.Array, parts: tuple[int, ...], precision: Any) -> jax.Array:
    return jnp.matmul(x, matrix, precision=precision)


def _tangent(parts: tuple[int, ...], precision: Any, primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    (x, matrix), (dx, dmatrix) = primals, tangents
    product = functools.partial(jnp.matmul, precision=precision)
    result = product(x, matrix)
    change = jnp.zeros_like(result)
    if not _is_zero(dx):
        change = product(dx, matrix)
    if not _is_zero(dmatrix):
        # Every part has the matrix to itself, so that its transpose has a gradient of its own.
        rows = x.reshape(parts)
        own = jnp.broadcast_to(dmatrix, (*rows.shape[:-2], *dmatrix.shape))
        change = change + product(rows, own).reshape(result.shape)
    return result, change


def _is_zero(tangent: Any) -> bool:
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero)


_times_in_parts.defjvp(_tangent, symbolic_zeros=True)

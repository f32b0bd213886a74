"""Products and exponentials of tiles inside Pallas kernels, and the parts of 16 bits that float32 is multiplied in."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from kernels import _exponentials
from kernels._tiles import LOG2_E, SMALLEST_SIDE, load_rows, padded_width
from kernels._triton_lowering import plt

# A tile in the parts that it is multiplied in: two of float16 for float32, one of its own dtype for bfloat16.
Parts = tuple[jax.Array, ...]


def is_split(dtype: jax.typing.DTypeLike) -> bool:
    """Return whether operands of this dtype are multiplied in parts."""
    return jnp.dtype(dtype) == jnp.float32


def stored_parts(x: jax.Array, read_once: bool, coarse: bool = False, joined: bool = False) -> jax.Array:
    """Return an operand `[parts, ...]` for tiles that a kernel loads; those that it reads once are split there.

    `coarse` and `joined` are as in `Products`.
    """
    if joined and not read_once and is_split(x.dtype):
        width = x.shape[-1]
        wide = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, padded_width(width) - width)])
        return join(*reversed(_split_in_xla(wide)))[None]
    if coarse and not read_once and is_split(x.dtype):
        return _split_in_xla(x)[0][None]
    return x[None] if read_once or not is_split(x.dtype) else jnp.stack(_split_in_xla(x))


def _split_in_xla(x: jax.Array) -> Parts:
    # Not a conversion there and back, which XLA takes for the identity.
    return _split(x, jax.lax.reduce_precision(x, exponent_bits=5, mantissa_bits=10))


def _split(x: jax.Array, rounded: jax.Array) -> Parts:
    return rounded.astype(jnp.float16), (x - rounded).astype(jnp.float16)


def join(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return two tiles side by side."""
    *rows, width = a.shape
    shape = (*rows, 2, width)
    both = jnp.broadcast_to(a[..., None, :], shape)
    if a is not b:
        first = jax.lax.broadcasted_iota(jnp.int32, shape, len(rows)) == 0
        both = jnp.where(first, both, jnp.broadcast_to(b[..., None, :], shape))
    return both.reshape(*rows, 2 * width)


@dataclass(frozen=True)
class Products:
    """Products of tiles with float32 sums, in compiled kernels or in interpreted ones.

    The tensor cores multiply float16 and bfloat16 exactly and sum in float32. A float32 number within the range of
    float16 is the sum of two float16 parts of 11 bits each; of the four products of parts, the three largest give a
    product to about 2⁻²³ (`multiply`). Parts of bfloat16 have the range of float32, but need six products, and three
    TF32 products (`dot`), which need no scales, take as many steps of the tensor cores and more conversions. With
    `coarse` float32 tiles have their first part alone, of as many bits as TF32 takes of them. With `polynomial_every`
    one exponential of so many is a polynomial (`weights_of`).

    Every product waits for the one before it. With `joined` both parts of a right factor are one tile (`right`), which
    meets each part of the left one in one product. Where the sum is over its columns the left factor's parts are
    repeated (`left`), with zeros for the product of the smallest; else the result has twice the columns, whose halves
    `folded` adds. The smaller part is the first, so that logits are summed from the smallest product to the largest
    whichever factor is the left one: then all kernels have the same.
    """

    logistic_factor: ClassVar[float] = -LOG2_E

    compiled: bool
    # Whether `exp2` and `reciprocal` are plain instructions of NVIDIA's GPUs.
    cuda: bool = False
    coarse: bool = False
    polynomial_every: int = 0
    joined: bool = False

    def exp2(self, x: jax.Array) -> jax.Array:
        """Return 2 to the power of float32 `x`; on an NVIDIA GPU results below 2⁻¹²⁶ are zero.

        The compiler's own form brings tiny results out of the range of the instruction and back, for numbers that no
        softmax sees: two to four instructions more for every pair of a point and a latent.
        """
        return jnp.exp2(x) if not self.cuda else self._instruction("ex2.approx.ftz.f32", x)

    def weights_of(self, logits: jax.Array, limited: bool = False) -> jax.Array:
        """Return 2 to the power of a tile of float32 logits, for weights of the accuracy of bfloat16.

        This is `exp2`, or with `polynomial_every` for one of so many a polynomial (`kernels/_exponentials.py`), which
        makes the largest number of NaN: of a softmax NaN goes on through the maximum, or through a mass out of range.
        Logits are at most 127; those beyond are to be `limited`, so that their weights are no less.
        """
        every = self.polynomial_every
        if every and not self.compiled:
            return _exponentials.one_in(logits, every, limited)
        if not (every and self.cuda):
            return self.exp2(logits)
        constraints = ",".join(["=f"] * every + ["f"] * every)
        return self._assembly(_exponentials.instructions(every, limited), constraints, logits, pack=every)

    def reciprocal(self, x: jax.Array) -> jax.Array:
        """Return 1 / float32 `x` to a bit; on an NVIDIA GPU what is below 2⁻¹²⁶ counts as zero."""
        return 1.0 / x if not self.cuda else self._instruction("rcp.approx.ftz.f32", x)

    def multiply_add(self, x: jax.Array, factor: Any, term: Any) -> jax.Array:
        """Return float32 `x * factor + term`, whose other two repeat along it; on an NVIDIA GPU it is rounded once.

        The lowering makes two instructions of a product and a sum.
        """
        if not self.cuda:
            return x * factor + term
        others = (
            jnp.broadcast_to(y, x.shape) if isinstance(y, jax.Array) else jnp.full(x.shape, y, x.dtype)
            for y in (factor, term)
        )
        return self._instruction("fma.rn.f32", x, *others)

    def logistic(self, x: jax.Array) -> jax.Array:
        """Return 1 / (1 + exp(-y)), where `x` is y times `logistic_factor`."""
        return self.reciprocal(1.0 + self.exp2(x))

    def in_place(self, x: jax.Array) -> jax.Array:
        """Return a tile whose float32 numbers are rounded to TF32 where they lie, before they are laid out as a factor.

        Triton lays a factor out where it is loaded, and what follows up to the product is done for the whole tile in
        each warp, three instructions for every number. It does not where something else than loads takes part.
        """
        if not self.cuda or x.dtype != jnp.float32:
            return x
        unused = jnp.broadcast_to(pl.program_id(0), x.shape)
        return self._assembly("mov.b32 $0, $1;", "=f,f,r", x, unused)

    def _instruction(self, name: str, *arguments: jax.Array) -> jax.Array:
        registers = ", ".join(f"${i}" for i in range(1 + len(arguments)))
        return self._assembly(f"{name} {registers};", "=f" + ",f" * len(arguments), *arguments)

    def _assembly(self, text: str, constraints: str, *arguments: jax.Array, pack: int = 1) -> jax.Array:
        [value] = plt.elementwise_inline_asm(
            text,
            args=list(arguments),
            constraints=constraints,
            pack=pack,
            result_shape_dtypes=[jax.ShapeDtypeStruct.like(arguments[0])],
        )
        return value

    def _operands(self, *tiles: jax.Array) -> tuple[jax.Array, ...]:
        """Return what is multiplied: a CPU has no products of 16 bits with float32 sums; in float32 they are exact."""
        return tiles if self.compiled else tuple(x.astype(jnp.float32) for x in tiles)

    def dot(self, a: jax.Array, b: jax.Array, contract: tuple[int, int], exact: str = "ieee") -> jax.Array:
        """Multiply two tiles over axes `contract`; float32 tiles never as plain TF32.

        With `exact="tf32x3"` a float32 tile is split into two TF32 parts on the tensor cores, whose three largest
        products have float32 accuracy; "ieee" asks for fused multiply-adds on the ordinary cores instead.
        """
        a, b = self._operands(a, b)
        precision = jax.lax.Precision.HIGHEST
        if a.dtype == jnp.float32 and exact == "tf32x3" and self.compiled:
            precision = jax.lax.DotAlgorithmPreset.TF32_TF32_F32_X3
        numbers = (((contract[0],), (contract[1],)), ((), ()))
        return jax.lax.dot_general(a, b, numbers, precision=precision, preferred_element_type=jnp.float32)

    def split(self, x: jax.Array, scale: jax.Array | float = 1.0) -> Parts:
        """Return the parts of a tile times `scale`; one that is not float32 is its own only part, without a scale."""
        if not is_split(x.dtype):
            return (x,)
        x = x * scale
        if self.coarse:
            return (x.astype(jnp.float16),) if self.compiled else _split_in_xla(x)[:1]
        return _split(x, x.astype(jnp.float16).astype(jnp.float32)) if self.compiled else _split_in_xla(x)

    def weights(self, weights: jax.Array, values: Parts) -> Parts:
        """Return float32 weights as the left factor of a product with `values`: split like them, or rounded."""
        return self.split(weights.astype(jnp.float32 if self.joined or len(values) > 1 else values[0].dtype))

    def left(self, parts: Parts) -> Parts:
        """Return the parts of a tile as the left factor of products with the rows of right ones."""
        if not self.joined or len(parts) == 1:
            return parts
        high, low = parts
        return join(high, high), join(jnp.zeros_like(low), low)

    def right(self, parts: Parts) -> Parts:
        """Return the parts of a tile as a right factor."""
        return (join(*reversed(parts)),) if self.joined and len(parts) == 2 else parts

    def columns(self, width: int) -> int:
        """Return how many columns a sum of products with `width` columns has until it is `folded`."""
        return padded_width(width) * (2 if self.joined else 1)

    def folded(self, total: jax.Array) -> jax.Array:
        """Return a sum of products of left and right factors, `[rows, columns(width)]`, with padded columns."""
        return jnp.sum(total.reshape(total.shape[0], 2, -1), axis=1) if self.joined else total

    def load_parts(self, ref: Any, start: Any, rows: int, width: int, valid: jax.Array | None) -> Parts:
        """Load the parts of a tile from `[parts, rows, width]`, or split it here if it is stored as one."""
        if self.joined and ref.dtype == jnp.float16:
            return (load_rows(ref, start, rows, 2 * padded_width(width), valid, (jnp.int32(0),)),)
        tiles = tuple(load_rows(ref, start, rows, width, valid, (jnp.int32(part),)) for part in range(ref.shape[0]))
        return self.split(*tiles) if len(tiles) == 1 else tiles

    def multiply(self, a: Parts, b: Parts, contract: tuple[int, int], start: jax.Array | None = None) -> jax.Array:
        """Return `start` plus the product of two tiles in parts over axes `contract`.

        The tensor cores cut off what a sum cannot hold instead of rounding it, which over thousands of steps becomes a
        bias. So the products of parts are summed by themselves, and their sum is added to `start` with rounding.
        """
        if len(b) == 1:  # of 16 bits, or joined
            if self.joined and contract == (1, 1) and not self.compiled:
                # Logits are the same as those of products that are not joined.
                return self._in_order(a, b[0], start)
            total = self.dot(a[-1], b[0], contract)
            for part in reversed(a[:-1]):
                total = total + self.dot(part, b[0], contract)
            return total if start is None else start + total
        total = None
        for order in reversed(range(len(a))):  # the smallest products first
            for i in range(order + 1):
                product = self.dot(a[i], b[order - i], contract)
                total = product if total is None else total + product
        return total if start is None else start + total

    def _in_order(self, a: Parts, b: jax.Array, start: jax.Array | None) -> jax.Array:
        """Return a product of joined rows in the order of the tensor cores, the fewest columns at a time."""
        total = None
        for part in reversed(a):
            for i in range(0, b.shape[1], SMALLEST_SIDE):
                product = self.dot(part[:, i : i + SMALLEST_SIDE], b[:, i : i + SMALLEST_SIDE], (1, 1))
                total = product if total is None else total + product
        return total if start is None else start + total

    def barrier(self) -> None:
        """Wait for the other threads of the program, so that what they stored can be loaded."""
        if self.compiled:
            plt.debug_barrier()

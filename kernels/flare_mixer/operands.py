"""The arrays that every implementation takes and returns."""

from typing import NamedTuple

import jax

from kernels.gather import operands as gather


class Operands(NamedTuple):
    """Inputs of the mixer; the decode operands are both None where both softmaxes share their logits.

    Shapes: q `[H, M, D]` or `[B, H, M, D]`, k `[B, N, H, D]`, v `[B, N, H, C]`, q_decode and k_decode like q and k with
    a width of their own, mask `[B, N]` bool. `largest_key`, if given, is a number that the norm of no key exceeds.
    """

    q: jax.Array
    k: jax.Array
    v: jax.Array
    q_decode: jax.Array | None = None
    k_decode: jax.Array | None = None
    mask: jax.Array | None = None
    largest_key: jax.Array | None = None

    @property
    def separate(self) -> bool:
        """Whether the scatter has logits of its own."""
        return self.q_decode is not None

    @property
    def scatter_pair(self) -> tuple[jax.Array, jax.Array]:
        """The latents' and the points' operand of the scatter's logits."""
        return (self.q_decode, self.k_decode) if self.separate else (self.q, self.k)

    @property
    def of_gather(self) -> gather.Operands:
        """The operands of the gather alone."""
        return gather.Operands(self.q, self.k, self.v, self.mask, self.largest_key)

    @property
    def widths(self) -> list[int]:
        """The widths of keys and values."""
        return [x.shape[-1] for x in (self.k, self.v, self.k_decode) if x is not None]

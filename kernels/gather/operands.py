"""The arrays that every implementation takes."""

from typing import NamedTuple

import jax


class Operands(NamedTuple):
    """Inputs: q `[H, M, D]` or `[B, H, M, D]`, k `[B, N, H, D]`, v `[B, N, H, C]` or None for k, mask `[B, N]` bool.

    `largest_key`, if given, is a float32 number that the norm of no key exceeds.
    """

    q: jax.Array
    k: jax.Array
    v: jax.Array | None = None
    mask: jax.Array | None = None
    largest_key: jax.Array | None = None

    @property
    def values(self) -> jax.Array:
        """The values of the points: v, or the keys."""
        return self.k if self.v is None else self.v

"""The operands, and the three contractions that forward and backward consist of (README.md, "Three contractions")."""

from typing import NamedTuple, Protocol, runtime_checkable

import jax


class Operands(NamedTuple):
    """Inputs of triple attention: q1, q2, k1, k2 `[B, N, H, D]` and v `[B, N, H, C]`, all of one dtype."""

    q1: jax.Array
    q2: jax.Array
    k1: jax.Array
    k2: jax.Array
    v: jax.Array


@runtime_checkable
class Contractions(Protocol):
    """What an implementation provides.

    a and b are `[B, N, H, D]`, x is `[B, N, H, C]`, a state S is float32 `[B, H, D, C, D]` with the axes i, j, l.
    """

    def accumulate(self, a: jax.Array, b: jax.Array, x: jax.Array) -> jax.Array:
        """Return the state Σ_n a_ni x_nj b_nl, float32."""

    def read(self, a: jax.Array, b: jax.Array, state: jax.Array) -> jax.Array:
        """Return Σ_il S_ijl a_ni b_nl, `[B, N, H, C]` in the dtype of a."""

    def pair(self, x: jax.Array, a: jax.Array, b: jax.Array, state: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return Σ_jl S_ijl x_nj b_nl and Σ_ij S_ijl x_nj a_ni, both `[B, N, H, D]` in the dtype of a."""

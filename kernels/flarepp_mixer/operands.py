"""The arrays that the mixer takes, and what it makes on its way."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from kernels._statistics import Statistics
from kernels.flare_mixer import operands as flare_mixer
from kernels.flare_mixer.mixing import PointStatistics
from kernels.gather import operands as gather


class Operands(NamedTuple):
    """Inputs: q0 and q_fixed `[H, M, D]`, gate `[H]`, k0, v0 or None, k and v `[B, N, H, D]`, mask `[B, N]` bool.

    `largest_keys`, if given, are float32 numbers that the norms of k0 and of k do not exceed.
    """

    q0: jax.Array
    q_fixed: jax.Array
    gate: jax.Array
    k0: jax.Array
    v0: jax.Array | None
    k: jax.Array
    v: jax.Array
    mask: jax.Array | None = None
    largest_keys: tuple[jax.Array | None, jax.Array | None] = (None, None)

    @property
    def synthesis(self) -> gather.Operands:
        """The operands of the gather that makes the queries."""
        return gather.Operands(self.q0, self.k0, self.v0, self.mask, self.largest_keys[0])

    def routing(self, q: jax.Array) -> flare_mixer.Operands:
        """The operands of the mixer with these queries, `[B, H, M, D]`, in the dtype of its keys."""
        return flare_mixer.Operands(
            q.astype(self.k.dtype), self.k, self.v, mask=self.mask, largest_key=self.largest_keys[1]
        )

    def queries(self, q_dynamic: jax.Array) -> jax.Array:
        """The queries `[B, H, M, D]` of the mixer from those that the points gave, float32."""
        return self.q_fixed + self.gate.astype(jnp.float32)[:, None, None] * q_dynamic


class Mixed(NamedTuple):
    """The mixed points and what was made on the way: float32 queries, and the statistics of all three softmaxes.

    The latents of the first are the queries from the points, those of the second the gathered values.
    """

    y: jax.Array
    q: jax.Array
    synthesis: Statistics
    routing: Statistics
    points: PointStatistics


class Latents(NamedTuple):
    """What a mixer made on its way, float32 `[B, H, M, D]`: queries from the points, all queries, gathered values."""

    q_dynamic: jax.Array
    q: jax.Array
    z: jax.Array

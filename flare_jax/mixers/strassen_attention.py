"""Strassen attention with linear states: four products of two linear states, gated per head."""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.layers.dropout import Key
from flare_jax.layers.initializers import zeros
from flare_jax.mixers.state_attention import StateAttention, StateBlock, StateBlockConfig, mean_outer_product


class StrassenAttention(StateAttention):
    """Token mixer of cost O(N·D) per channel from `S1 = 1/N Σ k1 v1ᵀ`, `S2 = 1/N Σ k2 v2ᵀ` and the means v̄1, v̄2.

    `y = g1 (q S1)∘v̄2 + g2 colsum(S1∘S2) + g3 (q S2)∘v̄1 + g4 q(S1∘S2)` with one scalar g of each kind per head; colsum
    sums over the key features. The gates start at zero, where the norm multiplies their gradient by 1/√epsilon.
    """

    def __init__(self, channel_dim: int, config: StateBlockConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        super().__init__(channel_dim, config, dtype=dtype, rngs=rngs)
        self.q_proj = self.make_projection(rngs)
        self.k1_proj = self.make_projection(rngs)
        self.k2_proj = self.make_projection(rngs)
        self.v1_proj = self.make_projection(rngs)
        self.v2_proj = self.make_projection(rngs)
        self.g1 = nnx.Param(zeros(self.num_heads))
        self.g2 = nnx.Param(zeros(self.num_heads))
        self.g3 = nnx.Param(zeros(self.num_heads))
        self.g4 = nnx.Param(zeros(self.num_heads))

    def __call__(
        self, x: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None = None, key: Key | None = None
    ) -> Float[Array, "B N C"]:
        """Mix the real tokens; the output at padded ones depends on the real tokens only."""
        (q,), (k1, k2), (v1, v2) = self.project(
            x,
            mask,
            queries=[self.q_proj],
            keys=[self.k1_proj, self.k2_proj],
            values=[self.v1_proj, self.v2_proj],
        )
        state1, state2 = mean_outer_product(k1, v1), mean_outer_product(k2, v2)
        mean1, mean2 = (v.astype(jnp.float32).mean(1)[:, :, None] for v in (v1, v2))
        product = state1 * state2
        g1, g2, g3, g4 = (gate[...][:, None, None] for gate in (self.g1, self.g2, self.g3, self.g4))
        # The three terms that are linear in q share one product of [N, D] with [D, D].
        state = g1 * state1 * mean2 + g3 * state2 * mean1 + g4 * product
        shared = g2 * product.sum(2, keepdims=True)
        y = jnp.einsum("bnhi,bhij->bnhj", q, state) + shared.swapaxes(1, 2)
        return self.output(y, key)


class StrassenBlock(StateBlock):
    """Pre-norm block of Strassen attention and a residual MLP."""

    mixer = StrassenAttention

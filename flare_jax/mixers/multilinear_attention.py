"""Multilinear attention: tokens read the elementwise product of several linear states of the sequence."""

import functools
from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.layers.dropout import Key
from flare_jax.mixers.state_attention import StateAttention, StateBlock, StateBlockConfig, mean_outer_product
from flare_jax.options import MAX_BLOCKS, option


@dataclass(frozen=True, kw_only=True)
class MultilinearConfig(StateBlockConfig):
    """Options of multilinear attention and the block around it."""

    num_states: int = option(2, help="linear states whose product tokens read", minimum=1, maximum=MAX_BLOCKS)


class MultilinearAttention(StateAttention):
    """Token mixer of cost O(N·D) per channel and state: `y = q Π_s S_s` with `S_s = 1/N Σ_n k_s,n v_s,nᵀ`.

    The product of the `num_states` states [D, D] of a head is elementwise. N counts the padding; the norm after it
    removes this factor up to its epsilon.
    """

    def __init__(self, channel_dim: int, config: MultilinearConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        super().__init__(channel_dim, config, dtype=dtype, rngs=rngs)
        self.q_proj = self.make_projection(rngs)
        self.k_projs = nnx.List([self.make_projection(rngs) for _ in range(config.num_states)])
        self.v_projs = nnx.List([self.make_projection(rngs) for _ in range(config.num_states)])

    def __call__(
        self, x: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None = None, key: Key | None = None
    ) -> Float[Array, "B N C"]:
        """Mix the real tokens; a padded one receives the output projection of the norm's bias."""
        (q,), keys, values = self.project(x, mask, queries=[self.q_proj], keys=self.k_projs, values=self.v_projs)
        states = [mean_outer_product(k, v) for k, v in zip(keys, values, strict=True)]
        state = functools.reduce(jnp.multiply, states)
        return self.output(jnp.einsum("bnhi,bhij->bnhj", q, state), key)


class MultilinearBlock(StateBlock):
    """Pre-norm block of multilinear attention and a residual MLP."""

    mixer = MultilinearAttention

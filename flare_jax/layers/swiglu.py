"""The gated MLP of language models (Shazeer, arXiv 2002.05202)."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flare_jax.layers.linear import Linear


class SwiGLU(nnx.Module):
    """`down(silu(gate x) · (up x))` without biases, of hidden width `width`; matrices ~ Normal(0, 0.02²)."""

    def __init__(self, channel_dim: int, width: int, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.gate_proj = Linear(channel_dim, width, use_bias=False, dtype=dtype, rngs=rngs)
        self.up_proj = Linear(channel_dim, width, use_bias=False, dtype=dtype, rngs=rngs)
        self.down_proj = Linear(width, channel_dim, use_bias=False, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "... C"]) -> Float[Array, "... C"]:
        """Map the last axis."""
        return self.down_proj(jax.nn.silu(self.gate_proj(x)) * self.up_proj(x))

"""Triple attention: tokens read a third-order state of the sequence."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.layers.dropout import Key
from flare_jax.layers.sharding import on_each_device
from flare_jax.mixers.state_attention import StateAttention, StateOptions
from kernels.triple_attention import triple_attention


class TripleAttention(StateAttention):
    """Token mixer of cost O(N·D²) per channel: `T_ijl = 1/N Σ_n k1_ni v_nj k2_nl`, `y_nj = Σ_il q1_ni T_ijl q2_nl`.

    N counts the padding; the norm after it removes this factor up to its epsilon. `implementation` names the kernel of
    the two contractions (`kernels.triple_attention`); None chooses.
    """

    def __init__(
        self,
        channel_dim: int,
        *,
        num_heads: int | None = None,
        options: StateOptions,
        dtype: DTypeLike = jnp.float32,
        implementation: str | None = None,
        rngs: nnx.Rngs,
    ):
        super().__init__(channel_dim, num_heads=num_heads, options=options, dtype=dtype, rngs=rngs)
        self.implementation = implementation
        self.q1_proj = self.make_projection(rngs)
        self.q2_proj = self.make_projection(rngs)
        self.k1_proj = self.make_projection(rngs)
        self.k2_proj = self.make_projection(rngs)
        self.v_proj = self.make_projection(rngs)

    def __call__(
        self, x: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None = None, key: Key | None = None
    ) -> Float[Array, "B N C"]:
        """Mix the real tokens; a padded one receives the output projection of the norm's bias."""
        (q1, q2), (k1, k2), (v,) = self.project(
            x,
            mask,
            queries=[self.q1_proj, self.q2_proj],
            keys=[self.k1_proj, self.k2_proj],
            values=[self.v_proj],
        )

        def kernel(tokens: Any, _: None, axis_name: str | None) -> Array:
            return triple_attention(*tokens, implementation=self.implementation, axis_name=axis_name)

        tokens = (q1, q2, k1, k2, v)
        mixed = on_each_device(kernel, tokens, None, leading=v.shape[:2], implementation=self.implementation)
        return self.output(mixed, key)

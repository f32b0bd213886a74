"""Triple attention: tokens read a third-order state of the sequence."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.layers.activations import TS1_ACTIVATIONS
from flare_jax.layers.dropout import Key
from flare_jax.layers.sharding import on_each_device
from flare_jax.mixers.block import PreNormBlock, feed_forward
from flare_jax.mixers.state_attention import StateAttention, StateBlock, StateBlockConfig, StateConfig
from flare_jax.option_groups import TransformerBlockConfig
from flare_jax.options import option
from kernels.triple_attention import triple_attention


@dataclass(frozen=True, kw_only=True)
class TripleConfig(StateBlockConfig):
    """Options of triple attention and the block around it."""

    implementation: str | None = option(
        None, help="kernel of the contractions (kernels.triple_attention); None chooses"
    )


@dataclass(frozen=True, kw_only=True)
class DeepTripleConfig(StateConfig, TransformerBlockConfig):
    """Options of triple attention with deep projections and unit queries and keys, and of the block around it.

    The projections always have the tanh GELU and three inner layers.
    """

    act: str | None = option(None, help="activation of the feed-forward part", choices=TS1_ACTIVATIONS)
    implementation: str | None = option(
        None, help="kernel of the contractions (kernels.triple_attention); None chooses"
    )
    kernel: ClassVar[str] = "identity"
    qk_dim_ratio: ClassVar[float] = 1.0
    norm_q: ClassVar[bool] = True
    norm_k: ClassVar[bool] = True
    num_layers_kv_proj: ClassVar[int] = 3
    projection_act: ClassVar[str | None] = None


class TripleAttention(StateAttention):
    """Token mixer of cost O(N·D²) per channel: `T_ijl = 1/N Σ_n k1_ni v_nj k2_nl`, `y_nj = Σ_il q1_ni T_ijl q2_nl`.

    N counts the padding; the norm after it removes this factor up to its epsilon.
    """

    def __init__(
        self,
        channel_dim: int,
        config: TripleConfig | DeepTripleConfig,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        super().__init__(channel_dim, config, dtype=dtype, rngs=rngs)
        self.implementation = config.implementation
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


class TripleBlock(StateBlock):
    """Pre-norm block of triple attention and a residual MLP."""

    mixer = TripleAttention


class DeepTripleBlock(PreNormBlock):
    """Pre-norm block of triple attention with deep projections and unit queries and keys."""

    def __init__(self, channel_dim: int, config: DeepTripleConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        att = TripleAttention(channel_dim, config, dtype=dtype, rngs=rngs)
        mlp = feed_forward(channel_dim, config, activations=TS1_ACTIVATIONS, dtype=dtype, rngs=rngs)
        super().__init__(channel_dim, att=att, mlp=mlp, rmsnorm=config.rmsnorm, dtype=dtype)

"""The pre-norm block around any token mixer."""

from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.layers.activations import FEED_FORWARD_ACTIVATIONS, Activation
from flare_jax.layers.dropout import Key, split_key
from flare_jax.layers.feed_forward import FeedForward
from flare_jax.layers.norms import make_norm
from flare_jax.layers.residual_mlp import ResidualMLP
from flare_jax.option_groups import TransformerBlockConfig


class PreNormBlock(nnx.Module):
    """`x + att(norm1 x)`, then `x + mlp(norm2 x)`.

    `att` is called as `att(x, mask, key)`; masks are those of real tokens, and keys, None in evaluation, are for
    dropout. Norms are RMS norms if `rmsnorm`, else layer norms.
    """

    def __init__(
        self,
        channel_dim: int,
        *,
        att: nnx.Module,
        mlp: FeedForward | ResidualMLP,
        rmsnorm: bool = False,
        dtype: DTypeLike = jnp.float32,
    ):
        self.norm1 = make_norm(channel_dim, rmsnorm=rmsnorm, dtype=dtype)
        self.att = att
        self.norm2 = make_norm(channel_dim, rmsnorm=rmsnorm, dtype=dtype)
        self.mlp = mlp

    def __call__(
        self, x: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None = None, key: Key | None = None
    ) -> Float[Array, "B N C"]:
        """Apply the block."""
        att_key, mlp_key = split_key(key, 2)
        x = x + self.att(self.norm1(x), mask, att_key)
        if isinstance(self.mlp, ResidualMLP):
            # One kernel does norm, MLP and outer residual.
            return self.mlp(x, norm=self.norm2, outer_residual=True)
        return x + self.mlp(self.norm2(x), mlp_key)


def feed_forward(
    channel_dim: int,
    config: TransformerBlockConfig,
    *,
    activations: Mapping[str | None, Activation] = FEED_FORWARD_ACTIVATIONS,
    dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
) -> FeedForward:
    """Return the feed-forward part that the options of a block describe."""
    return FeedForward(
        channel_dim,
        mlp_ratio=config.mlp_ratio,
        act=config.act,
        proj_drop=config.proj_drop,
        activations=activations,
        dtype=dtype,
        rngs=rngs,
    )

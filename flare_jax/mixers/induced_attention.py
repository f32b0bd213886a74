"""Induced set attention: inducing points read all points, all points read these (Set Transformer, arXiv 1810.00825)."""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_head_dim, check_integer
from flare_jax.layers.activations import FEED_FORWARD_ACTIVATIONS, find_activation
from flare_jax.layers.dropout import Key
from flare_jax.layers.initializers import uniform
from flare_jax.layers.linear import Linear
from flare_jax.layers.norms import LayerNorm
from flare_jax.mixers.gather_points import by_points, gather_points, read_latents
from flare_jax.mixers.heads import merge_heads, split_heads


class SetAttentionBlock(nnx.Module):
    """`norm1(o + act(fc_o o))` with `o = norm0(q + attention)` of queries a and keys b; the scale is 1/√C.

    q, k and v are linear maps of a and b; the norms are layer norms. Source: Set Transformer, "MAB".
    """

    def __init__(
        self,
        channel_dim: int,
        *,
        num_heads: int,
        act: str | None = None,
        implementation: str | None = None,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_head_dim(channel_dim, num_heads)
        self.num_heads, self.scale = num_heads, channel_dim**-0.5
        self.implementation = implementation
        self.activation = find_activation(act, FEED_FORWARD_ACTIVATIONS)
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (
            Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs) for _ in range(4)
        )
        self.norm0, self.norm1 = LayerNorm(channel_dim, dtype=dtype), LayerNorm(channel_dim, dtype=dtype)

    def gather(
        self, latents: Float[Array, "1 M C"], points: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None
    ) -> Float[Array, "B M C"]:
        """Let latents that all samples share read the real points."""
        q = self.q_proj(latents)
        k, v = (split_heads(projection(points), self.num_heads) for projection in (self.k_proj, self.v_proj))
        shared = by_points(split_heads(q, self.num_heads))[0]
        read = gather_points(shared, k, v, mask, scale=self.scale, implementation=self.implementation)
        return self._finish(q, merge_heads(by_points(read)))

    def scatter(self, points: Float[Array, "B N C"], latents: Float[Array, "B M C"]) -> Float[Array, "B N C"]:
        """Let points read latents."""
        q = self.q_proj(points)
        k, v = (split_heads(projection(latents), self.num_heads) for projection in (self.k_proj, self.v_proj))
        read = read_latents(split_heads(q, self.num_heads), k, v, scale=self.scale)
        return self._finish(q, merge_heads(read))

    def _finish(self, q: Float[Array, "_ M C"], read: Float[Array, "B M C"]) -> Float[Array, "B M C"]:
        o = self.norm0(q + read.astype(q.dtype))
        return self.norm1(o + self.activation(self.out_proj(o)))


class InducedSetAttention(nnx.Module):
    """Token mixer of cost O(N·M): M learned inducing points read the points, and the points read them."""

    def __init__(
        self,
        channel_dim: int,
        *,
        num_heads: int,
        num_inducing: int,
        act: str | None = None,
        implementation: str | None = None,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        m = check_integer("num_slices", num_inducing)
        # What Xavier's rule makes of the array [1, M, C] of the original.
        bound = (6 / (m * channel_dim + channel_dim)) ** 0.5
        self.inducing_points = nnx.Param(uniform(bound)(rngs.params(), (1, m, channel_dim)))

        def block() -> SetAttentionBlock:
            return SetAttentionBlock(
                channel_dim, num_heads=num_heads, act=act, implementation=implementation, dtype=dtype, rngs=rngs
            )

        self.gathering, self.scattering = block(), block()

    def __call__(
        self, x: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None = None, key: Key | None = None
    ) -> Float[Array, "B N C"]:
        """Mix the real points of each sample; `key` has no use."""
        return self.scattering.scatter(x, self.gathering.gather(self.inducing_points[...], x, mask))

"""Universal physics transformer: supernode pooling, latent transformer, perceiver decoder (arXiv 2402.12364)."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from flare_jax.checks import check_dtype, check_points, check_sizes
from flare_jax.layers.coordinate_embedding import embed_coordinates
from flare_jax.layers.dropout import Key
from flare_jax.layers.feed_forward import FeedForward
from flare_jax.layers.linear import Linear
from flare_jax.layers.norms import LayerNorm
from flare_jax.layers.padding import zero_padding
from flare_jax.layers.pointwise_mlp import PointwiseMLP
from flare_jax.layers.supernode_pooling import SupernodePooling
from flare_jax.layers.supernodes import draw_supernodes, spread_supernodes
from flare_jax.mixers.block import PreNormBlock
from flare_jax.mixers.cross_attention import CrossAttentionBlock
from flare_jax.mixers.self_attention import SelfAttention, SelfAttentionConfig
from flare_jax.option_groups import blocks, heads, latent_count, ratio, width
from flare_jax.options import MAX_LATENTS, MAX_WIDTH, Config, option

UPT_NORM_EPSILON = 1e-6


@dataclass(frozen=True, kw_only=True)
class UPTConfig(Config):
    """Options of the universal physics transformer.

    Distances and embeddings use `(coordinates − coord_min) · coord_scale`, which should be of the order of 100.
    """

    channel_dim: int = width(128)
    num_heads: int = heads(8)
    num_encoder_blocks: int = blocks(2, "transformer blocks on the supernodes", minimum=0)
    num_approximator_blocks: int = blocks(4, "transformer blocks on the latents", minimum=0)
    num_decoder_blocks: int = blocks(2, "further transformer blocks on the latents", minimum=0)
    num_supernodes: int = option(512, help="points that gather from their neighbours", minimum=1, maximum=MAX_LATENTS)
    num_latents: int = latent_count(128, "latents that gather from the supernodes")
    radius: float = option(5.0, help="of a neighbourhood, in scaled coordinates", above=0)
    max_degree: int = option(32, help="nearest neighbours of a supernode", minimum=1, maximum=MAX_LATENTS)
    mlp_ratio: float = ratio(4.0, "feed-forward part")
    space_dim: int | None = option(
        None, help="coordinates among the channels of x, which come first; None: all", minimum=1, maximum=MAX_WIDTH
    )
    coord_min: tuple[float, ...] | None = option(None, help="smallest coordinates of the training data; None: 0")
    coord_scale: float = option(1.0, help="200 over the largest extent of the training data", above=0)


class UPTBlock(PreNormBlock):
    """Transformer block with the epsilon of UPT's layer norms."""

    def __init__(
        self, channel_dim: int, config: SelfAttentionConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
    ):
        super().__init__(
            channel_dim,
            att=SelfAttention(channel_dim, config, dtype=dtype, rngs=rngs),
            mlp=FeedForward(channel_dim, mlp_ratio=config.mlp_ratio, dtype=dtype, rngs=rngs),
            dtype=dtype,
        )
        self.norm1.epsilon = self.norm2.epsilon = UPT_NORM_EPSILON


class UPT(nnx.Module):
    """Universal physics transformer of cost O(S·N + N·M), with S supernodes and M latents.

    The first `space_dim` channels of x are coordinates (None: all of them), the rest are features; without a rest the
    coordinates are the features too. Of the points within `radius` the nearest `max_degree` send messages to a
    supernode. The prediction depends on the points it is made at by their positions only. `dtype` is the compute dtype.
    Raises ValueError if `num_heads` does not divide `channel_dim`.
    """

    def __init__(self, in_dim: int, out_dim: int, config: UPTConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        check_sizes(in_dim=in_dim, out_dim=out_dim)
        channel_dim, num_heads, mlp_ratio = config.channel_dim, config.num_heads, config.mlp_ratio
        self.in_dim = in_dim
        self.space_dim = _check_space_dim(config.space_dim, in_dim)
        self.coord_min = _check_coord_min(config.coord_min, self.space_dim)
        self.coord_scale = config.coord_scale
        self.channel_dim = channel_dim
        self.num_supernodes = config.num_supernodes
        self.dtype = check_dtype(dtype)
        block = SelfAttentionConfig(num_heads=num_heads, mlp_ratio=mlp_ratio)

        def stack(depth: int) -> list[UPTBlock]:
            return [UPTBlock(channel_dim, block, dtype=dtype, rngs=rngs) for _ in range(depth)]

        def cross_block() -> CrossAttentionBlock:
            return CrossAttentionBlock(
                channel_dim,
                num_heads=num_heads,
                mlp_ratio=mlp_ratio,
                epsilon=UPT_NORM_EPSILON,
                dtype=dtype,
                rngs=rngs,
            )

        feature_dim = in_dim - self.space_dim or self.space_dim
        self.supernode_pooling = SupernodePooling(
            feature_dim,
            self.space_dim,
            channel_dim,
            radius=config.radius,
            max_degree=config.max_degree,
            dtype=dtype,
            rngs=rngs,
        )
        self.encoder_blocks = nnx.List(stack(config.num_encoder_blocks))
        self.query = nnx.Param(jax.random.truncated_normal(rngs.params(), -2, 2, (config.num_latents, channel_dim)))
        self.latent_pooling = cross_block()
        self.approximator_blocks = nnx.List(stack(config.num_approximator_blocks))
        self.decoder_blocks = nnx.List(stack(config.num_decoder_blocks))
        self.query_proj = PointwiseMLP(
            channel_dim, channel_dim, channel_dim, act="gelu", embedding=True, dtype=dtype, rngs=rngs
        )
        self.decoder = cross_block()
        self.out_norm = LayerNorm(channel_dim, epsilon=UPT_NORM_EPSILON, dtype=dtype)
        self.out_proj = Linear(channel_dim, out_dim, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "B N C_in"],
        mask: Bool[Array, "B N"] | None = None,
        *,
        supernode_idx: Int[Array, "B M"] | None = None,
        key: Key | None = None,
    ) -> Float[Array, "B N C_out"]:
        """Return the prediction in float32.

        The supernodes are the points `supernode_idx` if given; else a random choice with the random `key` of training,
        and every (N/S)-th point without one; at most N of them. Padded points (`mask` False) influence no real point,
        whatever they hold; their own outputs are meaningless. Raises ValueError if `x` is not [B, N, in_dim], `mask`
        not a bool array [B, N] or `supernode_idx` not an integer array [B, S]. Indices outside of [0, N) are those of
        the nearest point in memory, because compiled code cannot raise.
        """
        check_points(x, mask, self.in_dim)
        x = zero_padding(x, mask)
        positions = x[..., : self.space_dim]
        features = x[..., self.space_dim :] if self.in_dim > self.space_dim else positions
        p = self._rescale(positions)
        supernodes, exists = self._choose_supernodes(x.shape[:2], mask, supernode_idx, key)
        z = self._encode(features, p, supernodes, exists, mask)
        for block in (*self.approximator_blocks, *self.decoder_blocks):
            z = block(z)
        queries = self.query_proj(embed_coordinates(p, self.channel_dim))
        return self.out_proj(self.out_norm(self.decoder(queries, z))).astype(jnp.float32)

    def _rescale(self, positions: Float[Array, "B N C_p"]) -> Float[Array, "B N C_p"]:
        p = positions.astype(jnp.float32)
        p = p if self.coord_min is None else p - jnp.asarray(self.coord_min, jnp.float32)
        return p * self.coord_scale

    def _choose_supernodes(
        self,
        shape: tuple[int, int],
        mask: Bool[Array, "B N"] | None,
        supernode_idx: Int[Array, "B M"] | None,
        key: Key | None,
    ) -> tuple[Int[Array, "B M"], Bool[Array, "B M"]]:
        """Return the supernodes and which of them are real points."""
        if supernode_idx is not None:
            check_supernodes(supernode_idx, shape)
            supernodes = jnp.clip(supernode_idx, 0, shape[1] - 1)
            exists = jnp.ones(supernodes.shape, bool)
            return supernodes, exists if mask is None else jnp.take_along_axis(mask, supernodes, axis=1)
        if key is not None:
            return draw_supernodes(key, self.num_supernodes, *shape, mask)
        return spread_supernodes(self.num_supernodes, *shape, mask)

    def _encode(
        self,
        features: Float[Array, "B N C_in"],
        p: Float[Array, "B N C_p"],
        supernodes: Int[Array, "B _"],
        exists: Bool[Array, "B _"],
        mask: Bool[Array, "B N"] | None,
    ) -> Float[Array, "B M C"]:
        """Return the latents that summarise the supernodes."""
        tokens = self.supernode_pooling(features, p, supernodes, mask)
        # Without padding every supernode exists, and attention needs no mask.
        token_mask = None if mask is None else exists
        for block in self.encoder_blocks:
            tokens = block(tokens, token_mask)
        query = jnp.broadcast_to(self.query[...], (tokens.shape[0], *self.query.shape)).astype(self.dtype)
        return self.latent_pooling(query, tokens, token_mask)


def _check_space_dim(space_dim: int | None, in_dim: int) -> int:
    space_dim = in_dim if space_dim is None else space_dim
    if space_dim > in_dim:
        raise ValueError(f"space_dim is {space_dim} but in_dim is {in_dim}; choose space_dim among 1 to {in_dim}")
    return space_dim


def _check_coord_min(coord_min: tuple[float, ...] | None, space_dim: int) -> tuple[float, ...] | None:
    if coord_min is not None and len(coord_min) != space_dim:
        raise ValueError(f"coord_min is {coord_min} but there are {space_dim} coordinates; give one value for each")
    return coord_min


def check_supernodes(supernode_idx: jax.Array, shape: tuple[int, int]) -> None:
    """Raise unless `supernode_idx` is an integer array [B, S], for points of the shape (B, N)."""
    if supernode_idx.ndim != 2 or supernode_idx.shape[0] != shape[0]:
        raise ValueError(
            f"supernode_idx has shape {supernode_idx.shape} but must be [B, S] with B = {shape[0]}; "
            "pass the indices of the supernodes of every sample"
        )
    if not jnp.issubdtype(supernode_idx.dtype, jnp.integer):
        raise ValueError(f"supernode_idx has dtype {supernode_idx.dtype} but must be an integer; convert it to int32")

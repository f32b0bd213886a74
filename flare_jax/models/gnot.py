"""GNOT: normalised linear attention and mixtures of experts gated by position (arXiv 2302.14376)."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import (
    check_dtype,
    check_function_features,
    check_points,
    check_sizes,
    scaled_width,
)
from flare_jax.layers.activations import POINTWISE_ACTIVATIONS, find_activation
from flare_jax.layers.dropout import Key, dropout, split_key
from flare_jax.layers.initializers import draw_uniform
from flare_jax.layers.linear import InputLinear, Linear
from flare_jax.layers.norms import LayerNorm
from flare_jax.layers.padding import zero_padding
from flare_jax.layers.pointwise_mlp import PointwiseMLP
from flare_jax.layers.structured_grid import check_grid_points
from flare_jax.layers.time_embedding import TimeEmbedding, check_time
from flare_jax.layers.unified_position import unified_position_dim, unified_positions
from flare_jax.mixers.normalized_linear_attention import NORMALIZATIONS, NormalizedLinearAttention
from flare_jax.models.slice_stack import GridInputConfig
from flare_jax.option_groups import blocks, heads, rate, ratio, width
from flare_jax.options import MAX_HEADS, option


@dataclass(frozen=True, kw_only=True)
class GNOTConfig(GridInputConfig):
    """Options of GNOT; with `unified_pos_drop_input` x reaches the gates only."""

    channel_dim: int = width(128)
    num_blocks: int = blocks(4)
    num_heads: int = heads(8)
    num_experts: int = option(3, help="experts of each mixture", minimum=1, maximum=MAX_HEADS)
    mlp_ratio: float = ratio(4.0, "experts")
    act: str = option("gelu", help="activation; 'gelu' is the exact form", choices=POINTWISE_ACTIVATIONS)
    attn_type: str = option("l1", help="normalisation of the attention", choices=NORMALIZATIONS)
    dropout: float = rate("the mixed heads and the attention branches")


class Gate(nnx.Module):
    """Weights of the experts from the position: a softmax over the outputs of a three-layer MLP."""

    def __init__(
        self,
        in_dim: int,
        hidden_dim: int,
        num_experts: int,
        *,
        act: str,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.activation = find_activation(act, POINTWISE_ACTIVATIONS)
        self.fc1 = InputLinear(in_dim, hidden_dim, rngs=rngs)
        self.fc2 = Linear(hidden_dim, hidden_dim, dtype=dtype, rngs=rngs)
        self.fc3 = Linear(hidden_dim, num_experts, dtype=dtype, rngs=rngs)

    def __call__(self, positions: Float[Array, "B N C_in"]) -> Float[Array, "B N _"]:
        """Return the weights, float32, with sum 1 for every point."""
        hidden = self.activation(self.fc2(self.activation(self.fc1(positions))))
        return jax.nn.softmax(self.fc3(hidden).astype(jnp.float32), axis=-1)


class GNOTBlock(nnx.Module):
    """Cross-attention from the points to the running state, experts, self-attention, experts.

    The block starts from the embedded points x, which are the same for all blocks; the state z of the block before
    gives keys and values only. The norms of the experts act on their gated sum.
    """

    def __init__(
        self,
        config: GNOTConfig,
        *,
        position_dim: int,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        channel_dim, num_experts, act = config.channel_dim, config.num_experts, config.act
        hidden_dim = scaled_width("mlp_ratio", channel_dim, config.mlp_ratio)
        self.drop_rate = config.dropout

        def attention() -> NormalizedLinearAttention:
            return NormalizedLinearAttention(
                channel_dim,
                num_heads=config.num_heads,
                attn_type=config.attn_type,
                drop_rate=config.dropout,
                dtype=dtype,
                rngs=rngs,
            )

        def experts() -> list[PointwiseMLP]:
            options = {"act": act, "dtype": dtype, "rngs": rngs}
            return [PointwiseMLP(channel_dim, hidden_dim, channel_dim, **options) for _ in range(num_experts)]

        self.norm_x = LayerNorm(channel_dim, dtype=dtype)
        self.norm_z = LayerNorm(channel_dim, dtype=dtype)
        self.norm_experts1 = LayerNorm(channel_dim, dtype=dtype)
        self.norm_self = LayerNorm(channel_dim, dtype=dtype)
        self.norm_experts2 = LayerNorm(channel_dim, dtype=dtype)
        self.cross_att = attention()
        self.self_att = attention()
        self.experts1 = nnx.List(experts())
        self.experts2 = nnx.List(experts())
        self.gate = Gate(position_dim, hidden_dim, num_experts, act=act, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "B N C"],
        z: Float[Array, "B N C"],
        positions: Float[Array, "B N C_in"],
        mask: Bool[Array, "B N"] | None = None,
        key: Key | None = None,
    ) -> Float[Array, "B N C"]:
        """Return the new state of all points; `key` switches dropout on."""
        keys = split_key(key, 4)
        weights = self.gate(positions)
        crossed = self.cross_att(self.norm_x(x), self.norm_z(z), mask, keys[0])
        a = x + dropout(crossed, self.drop_rate, keys[1])
        a = a + self.norm_experts1(mix_experts(self.experts1, weights, a))
        normed = self.norm_self(a)
        a = a + dropout(self.self_att(normed, normed, mask, keys[2]), self.drop_rate, keys[3])
        return a + self.norm_experts2(mix_experts(self.experts2, weights, a))


def mix_experts(
    experts: Sequence[PointwiseMLP], weights: Float[Array, "B N _"], x: Float[Array, "B N C"]
) -> Float[Array, "B N C"]:
    """Return the sum of the experts' outputs in float32, each times its weight at the point."""
    # One expert after the other: the outputs of all of them are never stored together.
    return sum(weights[..., e, None] * expert(x) for e, expert in enumerate(experts))


class GNOT(nnx.Module):
    """General neural operator transformer of cost O(N·D²) with `num_experts` experts per mixture.

    `dtype` is the compute dtype. Raises ValueError if `num_heads` does not divide `channel_dim`.
    """

    def __init__(
        self, in_dim: int, out_dim: int, config: GNOTConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
    ):
        check_sizes(in_dim=in_dim, out_dim=out_dim)
        channel_dim, act = config.channel_dim, config.act
        self.in_dim = in_dim
        self.config = config
        self.dtype = check_dtype(dtype)
        position_dim = unified_position_dim(config.grid_shape, config.ref) if config.unified_pos else in_dim
        kept_dim = in_dim if config.unified_pos and not config.unified_pos_drop_input else 0

        def embedding(inputs: int) -> PointwiseMLP:
            return PointwiseMLP(inputs, 2 * channel_dim, channel_dim, act=act, embedding=True, dtype=dtype, rngs=rngs)

        self.preprocess_x = embedding(position_dim)
        self.preprocess_z = embedding(position_dim + kept_dim + config.fun_dim)
        self.placeholder = nnx.Param(draw_uniform(rngs.params(), (channel_dim,), 0.0, 1 / channel_dim))
        self.time_fc = TimeEmbedding(channel_dim, dtype=dtype, rngs=rngs) if config.time_input else None
        self.blocks = nnx.List(
            [GNOTBlock(config, position_dim=in_dim, dtype=dtype, rngs=rngs) for _ in range(config.num_blocks)]
        )
        self.head = PointwiseMLP(channel_dim, 2 * channel_dim, out_dim, act="gelu", dtype=dtype, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "B N C_in"],
        mask: Bool[Array, "B N"] | None = None,
        *,
        fx: Float[Array, "B N C_fun"] | None = None,
        time: Float[Array, "B"] | Float[Array, "B 1"] | None = None,
        key: Key | None = None,
    ) -> Float[Array, "B N C_out"]:
        """Return the prediction in float32; `key` switches dropout on.

        Padded points (`mask` False) influence no real point, whatever they hold; their own outputs are meaningless.
        Raises ValueError for inputs of other shapes than the model was built for, and for points that are not those of
        the grid.
        """
        self._check_inputs(x, mask, fx, time)
        x = zero_padding(x, mask)
        fx = None if fx is None else zero_padding(fx, mask)
        embedded, state = self._embed(x, fx)
        if time is not None:
            state = state + self.time_fc(time)
        for block, block_key in zip(self.blocks, split_key(key, len(self.blocks)), strict=True):
            state = block(embedded, state, x, mask, block_key)
        return self.head(state).astype(jnp.float32)

    def _check_inputs(self, x: jax.Array, mask: jax.Array | None, fx: jax.Array | None, time: jax.Array | None) -> None:
        check_points(x, mask, self.in_dim)
        check_function_features(fx, x.shape, self.config.fun_dim)
        check_time(time, x.shape[0], self.time_fc is not None)
        if self.config.grid_shape is not None:
            check_grid_points(x.shape[1], self.config.grid_shape)

    def _embed(
        self, x: Float[Array, "B N C_in"], fx: Float[Array, "B N C_fun"] | None
    ) -> tuple[Float[Array, "B N C"], Float[Array, "B N C"]]:
        """Return the embedded points and the first state."""
        coordinates, features = x, []
        if self.config.unified_pos:
            table = unified_positions(self.config.grid_shape, self.config.ref)
            coordinates = jnp.broadcast_to(table, (x.shape[0], *table.shape))
            features = [] if self.config.unified_pos_drop_input else [x]
        features = features if fx is None else [*features, fx]
        state = self.preprocess_z(jnp.concatenate([coordinates, *features], axis=-1))
        return self.preprocess_x(coordinates), state + self.placeholder[...].astype(self.dtype)

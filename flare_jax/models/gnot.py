"""GNOT: normalised linear attention and mixtures of experts gated by position (arXiv 2302.14376)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import (
    check_dtype,
    check_function_features,
    check_integer,
    check_points,
    check_sizes,
    scaled_width,
)
from flare_jax.layers.activations import POINTWISE_ACTIVATIONS, find_activation
from flare_jax.layers.dropout import Key, check_rate, dropout, split_key
from flare_jax.layers.linear import InputLinear, Linear
from flare_jax.layers.norms import LayerNorm
from flare_jax.layers.padding import zero_padding
from flare_jax.layers.pointwise_mlp import PointwiseMLP
from flare_jax.layers.structured_grid import check_grid_points, check_grid_shape
from flare_jax.layers.time_embedding import TimeEmbedding, check_time
from flare_jax.layers.unified_position import check_unified_position, unified_position_dim, unified_positions
from flare_jax.mixers.normalized_linear_attention import NormalizedLinearAttention


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
        channel_dim: int,
        *,
        position_dim: int,
        num_heads: int,
        num_experts: int,
        mlp_ratio: float,
        act: str,
        attn_type: str,
        drop_rate: float,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        hidden_dim = scaled_width("mlp_ratio", channel_dim, mlp_ratio)
        self.drop_rate = drop_rate

        def attention() -> NormalizedLinearAttention:
            return NormalizedLinearAttention(
                channel_dim, num_heads=num_heads, attn_type=attn_type, drop_rate=drop_rate, dtype=dtype, rngs=rngs
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

    `fun_dim` is the width of the function features `fx` of the call. `grid_shape` declares a structured grid of 1 to 3
    axes, last axis fastest; `unified_pos` then puts the distances to `ref` reference points per axis in the place of
    the coordinates, and x follows as function features, unless `unified_pos_drop_input`, as in the original, where x
    reaches the gates only. `time_input` adds an embedding of the call's `time`. `attn_type` is the normalisation of
    the attention, 'l1', 'galerkin' or 'l2'. `dropout` is the rate for the mixed heads and the attention branches.
    `act` is 'gelu' (erf form), 'tanh', 'sigmoid', 'relu', 'leaky_relu', 'softplus', 'ELU' or 'silu'. Raises ValueError
    for values out of range, and if `num_heads` does not divide `channel_dim`.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        channel_dim: int = 128,
        num_blocks: int = 4,
        num_heads: int = 8,
        num_experts: int = 3,
        mlp_ratio: float = 4.0,
        act: str = "gelu",
        fun_dim: int = 0,
        grid_shape: tuple[int, ...] | None = None,
        unified_pos: bool = False,
        unified_pos_drop_input: bool = False,
        ref: int = 8,
        time_input: bool = False,
        attn_type: str = "l1",
        dropout: float = 0.0,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_sizes(
            in_dim=in_dim, out_dim=out_dim, channel_dim=channel_dim, num_blocks=num_blocks, num_experts=num_experts
        )
        self.in_dim = in_dim
        self.fun_dim = check_integer("fun_dim", fun_dim, minimum=0)
        self.grid_shape = None if grid_shape is None else check_grid_shape(grid_shape)
        self.unified_pos, self.drop_input, self.ref = unified_pos, unified_pos_drop_input, ref
        self.dtype = check_dtype(dtype)
        check_unified_position(unified_pos, unified_pos_drop_input, grid_shape)
        position_dim = unified_position_dim(grid_shape, ref) if unified_pos else in_dim
        kept_dim = in_dim if unified_pos and not unified_pos_drop_input else 0

        def embedding(inputs: int) -> PointwiseMLP:
            return PointwiseMLP(inputs, 2 * channel_dim, channel_dim, act=act, embedding=True, dtype=dtype, rngs=rngs)

        self.preprocess_x = embedding(position_dim)
        self.preprocess_z = embedding(position_dim + kept_dim + fun_dim)
        self.placeholder = nnx.Param(jax.random.uniform(rngs.params(), (channel_dim,), maxval=1 / channel_dim))
        self.time_fc = TimeEmbedding(channel_dim, dtype=dtype, rngs=rngs) if time_input else None
        self.blocks = nnx.List(
            [
                GNOTBlock(
                    channel_dim,
                    position_dim=in_dim,
                    num_heads=num_heads,
                    num_experts=num_experts,
                    mlp_ratio=mlp_ratio,
                    act=act,
                    attn_type=attn_type,
                    drop_rate=check_rate("dropout", dropout),
                    dtype=dtype,
                    rngs=rngs,
                )
                for _ in range(num_blocks)
            ]
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
        check_function_features(fx, x.shape, self.fun_dim)
        check_time(time, x.shape[0], self.time_fc is not None)
        if self.grid_shape is not None:
            check_grid_points(x.shape[1], self.grid_shape)

    def _embed(
        self, x: Float[Array, "B N C_in"], fx: Float[Array, "B N C_fun"] | None
    ) -> tuple[Float[Array, "B N C"], Float[Array, "B N C"]]:
        """Return the embedded points and the first state."""
        coordinates, features = x, []
        if self.unified_pos:
            table = unified_positions(self.grid_shape, self.ref)
            coordinates = jnp.broadcast_to(table, (x.shape[0], *table.shape))
            features = [] if self.drop_input else [x]
        features = features if fx is None else [*features, fx]
        state = self.preprocess_z(jnp.concatenate([coordinates, *features], axis=-1))
        return self.preprocess_x(coordinates), state + self.placeholder[...].astype(self.dtype)

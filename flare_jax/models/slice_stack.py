"""What the slice-token models have in common: the embedding of the points, the blocks, and the head in the last one."""

from collections.abc import Mapping, Sequence
from typing import Any

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
from flare_jax.layers.activations import POINTWISE_ACTIVATIONS, Activation
from flare_jax.layers.dropout import Key, split_key
from flare_jax.layers.linear import Linear
from flare_jax.layers.norms import LayerNorm
from flare_jax.layers.padding import zero_padding
from flare_jax.layers.pointwise_mlp import PointwiseMLP
from flare_jax.layers.structured_grid import check_grid_points, check_grid_shape, check_no_mask
from flare_jax.layers.time_embedding import TimeEmbedding, check_time
from flare_jax.layers.unified_position import check_unified_position, unified_position_dim, unified_positions


class SliceBlock(nnx.Module):
    """Pre-norm block `x + att(norm1 x)`, `x + mlp(norm2 x)`; with an `out_dim` it then returns `head(norm3 x)`."""

    def __init__(
        self,
        channel_dim: int,
        *,
        att: nnx.Module,
        mlp_ratio: float = 1.0,
        act: str | None = "gelu",
        activations: Mapping[str | None, Activation] = POINTWISE_ACTIVATIONS,
        out_dim: int | None = None,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        hidden_dim = scaled_width("mlp_ratio", channel_dim, mlp_ratio)
        self.norm1 = LayerNorm(channel_dim, dtype=dtype)
        self.att = att
        self.norm2 = LayerNorm(channel_dim, dtype=dtype)
        self.mlp = PointwiseMLP(
            channel_dim, hidden_dim, channel_dim, act=act, activations=activations, dtype=dtype, rngs=rngs
        )
        self.norm3 = None if out_dim is None else LayerNorm(channel_dim, dtype=dtype)
        self.head = None if out_dim is None else Linear(channel_dim, out_dim, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "B N C"],
        mask: Bool[Array, "B N"] | None = None,
        key: Key | None = None,
        uniforms: Float[Array, "B H N M"] | None = None,
    ) -> Float[Array, "B N C_out"]:
        """Apply the block; `uniforms` are random numbers for mixers that take them."""
        noise = () if uniforms is None else (uniforms,)
        x = x + self.att(self.norm1(x), mask, key, *noise)
        x = x + self.mlp(self.norm2(x))
        return x if self.head is None else self.head(self.norm3(x))


class SliceStack(nnx.Module):
    """Embedding, one block per mixer in `mixers`, head in the last block: the forward pass of Transolver and its kin.

    Points are `x` of width `in_dim`, with `fx` of width `fun_dim` if that is not 0. The embedding gets a learned
    `placeholder` added if there are no function features, or in any case with `always_placeholder`. On a structured
    grid `unified_pos` puts distances to `ref`^d reference points in the place of the coordinates, and x follows as
    function features, unless `unified_pos_drop_input`. `time_input` adds an embedding of the call's `time`. `remat`
    recomputes the blocks in the backward pass instead of storing what is inside of them.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        channel_dim: int,
        mixers: Sequence[nnx.Module],
        mlp_ratio: float = 1.0,
        act: str = "gelu",
        fun_dim: int = 0,
        grid_shape: tuple[int, ...] | None = None,
        unified_pos: bool = False,
        unified_pos_drop_input: bool = False,
        ref: int = 8,
        time_input: bool = False,
        always_placeholder: bool = False,
        remat: bool = False,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_sizes(in_dim=in_dim, out_dim=out_dim, channel_dim=channel_dim)
        check_unified_position(unified_pos, unified_pos_drop_input, grid_shape)
        self.in_dim = in_dim
        self.fun_dim = check_integer("fun_dim", fun_dim, minimum=0)
        self.grid_shape = None if grid_shape is None else check_grid_shape(grid_shape)
        self.unified_pos, self.drop_input, self.ref = unified_pos, unified_pos_drop_input, ref
        self.remat = remat
        self.dtype = check_dtype(dtype)
        embedded = 0 if unified_pos_drop_input else in_dim
        embedded += unified_position_dim(grid_shape, ref) if unified_pos else 0
        self.preprocess = PointwiseMLP(
            embedded + fun_dim, 2 * channel_dim, channel_dim, act=act, embedding=True, dtype=dtype, rngs=rngs
        )
        self.placeholder = nnx.Param(jax.random.uniform(rngs.params(), (channel_dim,), maxval=1 / channel_dim))
        has_features = fun_dim > 0 or (unified_pos and not unified_pos_drop_input)
        self.adds_placeholder = always_placeholder or not has_features
        self.time_fc = TimeEmbedding(channel_dim, dtype=dtype, rngs=rngs) if time_input else None
        last = len(mixers) - 1
        self.blocks = nnx.List(
            [
                SliceBlock(
                    channel_dim,
                    att=mixer,
                    mlp_ratio=mlp_ratio,
                    act=act,
                    out_dim=out_dim if i == last else None,
                    dtype=dtype,
                    rngs=rngs,
                )
                for i, mixer in enumerate(mixers)
            ]
        )

    def __call__(
        self,
        x: Float[Array, "B N C_in"],
        mask: Bool[Array, "B N"] | None = None,
        *,
        fx: Float[Array, "B N C_fun"] | None = None,
        time: Float[Array, "B"] | Float[Array, "B 1"] | None = None,
        key: Key | None = None,
    ) -> Float[Array, "B N C_out"]:
        """Return the prediction in float32.

        Padded points (`mask` False) influence no real point, whatever they hold; their own outputs are meaningless.
        `fx` are function features, `time` one time per sample, and `key` is for dropout (None: evaluation). Raises
        ValueError for inputs of other shapes than the model was built for, for points that are not those of the grid,
        and for a mask on a structured grid.
        """
        x = self.embed(x, mask, fx, time)
        return self.apply_blocks(x, mask, split_key(key, len(self.blocks)))

    def embed(
        self, x: Array, mask: Array | None, fx: Array | None = None, time: Array | None = None
    ) -> Float[Array, "B N C"]:
        """Check the inputs of the call and return the embedded points."""
        check_points(x, mask, self.in_dim)
        check_function_features(fx, x.shape, self.fun_dim)
        check_time(time, x.shape[0], self.time_fc is not None)
        if self.grid_shape is not None:
            check_grid_points(x.shape[1], self.grid_shape)
            check_no_mask(mask)
        parts = [] if self.drop_input else [x]
        parts = parts if fx is None else [*parts, fx]
        parts = [zero_padding(part, mask) for part in parts]
        if self.unified_pos:
            features = unified_positions(self.grid_shape, self.ref)
            parts = [jnp.broadcast_to(features, (x.shape[0], *features.shape)), *parts]
        y = self.preprocess(jnp.concatenate([part.astype(jnp.float32) for part in parts], axis=-1))
        y = y + self.placeholder[...].astype(self.dtype) if self.adds_placeholder else y
        return y if time is None else y + self.time_fc(time)

    def apply_blocks(
        self,
        x: Float[Array, "B N C"],
        mask: Bool[Array, "B N"] | None,
        keys: Sequence[Key | None],
        uniforms: Sequence[Float[Array, "B H N M"]] | None = None,
    ) -> Float[Array, "B N C_out"]:
        """Apply the blocks with one random key each and return the prediction in float32."""

        def apply(i: int, *inputs: Any) -> Array:
            return self.blocks[i](*inputs)

        apply = jax.checkpoint(apply, static_argnums=0) if self.remat else apply
        for i, key in enumerate(keys):
            x = apply(i, x, mask, key, None if uniforms is None else uniforms[i])
        return x.astype(jnp.float32)

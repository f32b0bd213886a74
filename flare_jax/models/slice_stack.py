"""What the slice-token models have in common: the embedding of the points, the blocks, and the head in the last one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_dtype, check_function_features, check_points, check_sizes, scaled_width
from flare_jax.layers.activations import POINTWISE_ACTIVATIONS, Activation
from flare_jax.layers.dropout import Key
from flare_jax.layers.initializers import draw_uniform
from flare_jax.layers.linear import Linear
from flare_jax.layers.norms import LayerNorm
from flare_jax.layers.padding import zero_padding
from flare_jax.layers.pointwise_mlp import PointwiseMLP
from flare_jax.layers.structured_grid import check_grid_points, check_no_mask
from flare_jax.layers.time_embedding import TimeEmbedding, check_time
from flare_jax.layers.unified_position import check_unified_position, unified_position_dim, unified_positions
from flare_jax.mixers.slice_attention import GridConfig
from flare_jax.models.stack import ResidualStack
from flare_jax.option_groups import blocks, ratio, recomputed, width
from flare_jax.options import MAX_WIDTH, Config, option

_MAX_REFERENCE = 2**6


@dataclass(frozen=True, kw_only=True)
class InputConfig(Config):
    """Options of what a model reads beside its points: here function features only."""

    fun_dim: int = option(0, help="channels of the function features fx of the call", minimum=0, maximum=MAX_WIDTH)
    grid_shape: ClassVar[tuple[int, ...] | None] = None
    unified_pos: ClassVar[bool] = False
    unified_pos_drop_input: ClassVar[bool] = False
    ref: ClassVar[int] = 8
    time_input: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class GridInputConfig(GridConfig, InputConfig):
    """Options of what a model reads beside its points, which may be those of a structured grid.

    `unified_pos` puts distances to `ref`^d reference points in the place of the coordinates, and x follows as function
    features. The original drops x there (`unified_pos_drop_input`), so that without `fx` it ignores its input.
    """

    unified_pos: bool = option(False, help="distances to reference points in the place of the coordinates of a grid")
    unified_pos_drop_input: bool = option(False, help="drop x beside them, as the original does", needs="unified_pos")
    ref: int = option(8, help="reference points per axis", minimum=1, maximum=_MAX_REFERENCE, needs="unified_pos")
    time_input: bool = option(False, help="add an embedding of the time of the call")

    def check_together(self) -> None:
        """Raise if positions on a grid are asked for without a grid."""
        super().check_together()
        check_unified_position(self.unified_pos, self.grid_shape)


@dataclass(frozen=True, kw_only=True)
class SliceStackConfig(Config):
    """Options of the embedding, the feed-forward parts and the head of the slice-token models."""

    channel_dim: int = width(256)
    num_blocks: int = blocks(5)
    act: str = option("gelu", help="activation; 'gelu' is the exact form", choices=POINTWISE_ACTIVATIONS)
    mlp_ratio: float = ratio(1.0, "feed-forward part")
    remat: bool = recomputed()


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


class SliceStack(ResidualStack):
    """Embedding, one block per mixer in `mixers`, head in the last block: the forward pass of Transolver and its kin.

    `config` has the options of `SliceStackConfig` and those of `InputConfig` or `GridInputConfig`. Points are `x` of
    width `in_dim`, with `fx` of width `fun_dim` if that is not 0. The embedding gets a learned `placeholder` added if
    there are no function features, or in any case with `always_placeholder`.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        config: SliceStackConfig,
        *,
        mixers: Sequence[nnx.Module],
        always_placeholder: bool = False,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_sizes(in_dim=in_dim, out_dim=out_dim)
        channel_dim = config.channel_dim
        self.in_dim = in_dim
        self.config = config
        self.remat = config.remat
        self.dtype = check_dtype(dtype)
        embedded = 0 if config.unified_pos_drop_input else in_dim
        embedded += unified_position_dim(config.grid_shape, config.ref) if config.unified_pos else 0
        self.preprocess = PointwiseMLP(
            embedded + config.fun_dim,
            2 * channel_dim,
            channel_dim,
            act=config.act,
            embedding=True,
            dtype=dtype,
            rngs=rngs,
        )
        self.placeholder = nnx.Param(draw_uniform(rngs.params(), (channel_dim,), 0.0, 1 / channel_dim))
        has_features = config.fun_dim > 0 or (config.unified_pos and not config.unified_pos_drop_input)
        self.adds_placeholder = always_placeholder or not has_features
        self.time_fc = TimeEmbedding(channel_dim, dtype=dtype, rngs=rngs) if config.time_input else None
        last = len(mixers) - 1
        self.blocks = nnx.List(
            [
                SliceBlock(
                    channel_dim,
                    att=mixer,
                    mlp_ratio=config.mlp_ratio,
                    act=config.act,
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
        return self.predict(self.apply_blocks(self.embed(x, mask, fx, time), mask, key)[0])

    def embed(
        self, x: Array, mask: Array | None, fx: Array | None = None, time: Array | None = None
    ) -> Float[Array, "B N C"]:
        """Check the inputs of the call and return the embedded points."""
        config = self.config
        check_points(x, mask, self.in_dim)
        check_function_features(fx, x.shape, config.fun_dim)
        check_time(time, x.shape[0], self.time_fc is not None)
        if config.grid_shape is not None:
            check_grid_points(x.shape[1], config.grid_shape)
            check_no_mask(mask)
        parts = [] if config.unified_pos_drop_input else [x]
        parts = parts if fx is None else [*parts, fx]
        parts = [zero_padding(part, mask) for part in parts]
        if config.unified_pos:
            features = unified_positions(config.grid_shape, config.ref)
            parts = [jnp.broadcast_to(features, (x.shape[0], *features.shape)), *parts]
        y = self.preprocess(jnp.concatenate([part.astype(jnp.float32) for part in parts], axis=-1))
        y = y + self.placeholder[...].astype(self.dtype) if self.adds_placeholder else y
        return y if time is None else y + self.time_fc(time)

    def predict(self, x: Float[Array, "B N C_out"]) -> Float[Array, "B N C_out"]:
        """Return in float32 what the head in the last block returned."""
        return x.astype(jnp.float32)

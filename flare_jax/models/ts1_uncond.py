"""TS1, a precursor of FLARE with learned slice queries; no paper describes it."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_dtype, check_integer, check_points, check_sizes
from flare_jax.layers.activations import TS1_ACTIVATIONS, Activation
from flare_jax.layers.dropout import Key, split_key
from flare_jax.layers.linear import Linear
from flare_jax.layers.norms import LayerNorm
from flare_jax.layers.padding import zero_padding
from flare_jax.layers.pointwise_mlp import PointwiseMLP
from flare_jax.mixers.learned_slice_attention import LearnedSliceAttention, SliceStatistics
from flare_jax.models.slice_stack import SliceBlock


class LearnedSliceStack(nnx.Module):
    """Embedding MLP, one block per mixer in `mixers`, norm and linear head: the forward pass of TS1 and TS3.

    `activations` gives the meaning of the names in `act` to the embedding and the feed-forward parts.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        channel_dim: int,
        mixers: Sequence[nnx.Module],
        activations: Mapping[str | None, Activation],
        mlp_ratio: float = 1.0,
        act: str | None = None,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_sizes(in_dim=in_dim, out_dim=out_dim, channel_dim=channel_dim)
        self.in_dim = in_dim
        self.dtype = check_dtype(dtype)
        self.x_embedding = PointwiseMLP(
            in_dim,
            2 * channel_dim,
            channel_dim,
            act=act,
            activations=activations,
            embedding=True,
            dtype=dtype,
            rngs=rngs,
        )
        self.blocks = nnx.List(
            [
                SliceBlock(
                    channel_dim,
                    att=mixer,
                    mlp_ratio=mlp_ratio,
                    act=act,
                    activations=activations,
                    dtype=dtype,
                    rngs=rngs,
                )
                for mixer in mixers
            ]
        )
        self.norm = LayerNorm(channel_dim, dtype=dtype)
        self.head = Linear(channel_dim, out_dim, dtype=dtype, rngs=rngs)

    def embed(self, x: Array, mask: Array | None) -> Float[Array, "B N C"]:
        """Check the inputs of the call and return the embedded points."""
        check_points(x, mask, self.in_dim)
        return self.x_embedding(zero_padding(x, mask))

    def predict(self, x: Float[Array, "B N C"]) -> Float[Array, "B N C_out"]:
        """Return the prediction in float32 of the points after the last block."""
        return self.head(self.norm(x)).astype(jnp.float32)


class TS1Uncond(LearnedSliceStack):
    """TS1: points gather into slices by a softmax over learned queries, slices attend to each other, points read back.

    `act` is 'gelu' (exact), 'silu', 'swiglu' or None for the first; `qk_norm` makes slice queries and point keys unit
    vectors; `dropout` acts on the output of each mixer. Raises ValueError for values out of range, and if `num_heads`
    does not divide `channel_dim`.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        channel_dim: int = 128,
        num_blocks: int = 5,
        num_heads: int = 8,
        num_slices: int = 32,
        mlp_ratio: float = 1.0,
        act: str | None = None,
        qk_norm: bool = False,
        dropout: float = 0.0,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        def make_mixer() -> LearnedSliceAttention:
            return LearnedSliceAttention(
                channel_dim,
                num_heads=num_heads,
                num_slices=num_slices,
                qk_norm=qk_norm,
                drop_rate=dropout,
                dtype=dtype,
                rngs=rngs,
            )

        super().__init__(
            in_dim,
            out_dim,
            channel_dim=channel_dim,
            mixers=[make_mixer() for _ in range(check_integer("num_blocks", num_blocks))],
            activations=TS1_ACTIVATIONS,
            mlp_ratio=mlp_ratio,
            act=act,
            dtype=dtype,
            rngs=rngs,
        )

    def __call__(
        self,
        x: Float[Array, "B N C_in"],
        mask: Bool[Array, "B N"] | None = None,
        *,
        key: Key | None = None,
        return_stats: bool = False,
    ) -> Float[Array, "B N C_out"] | tuple[Float[Array, "B N C_out"], tuple[SliceStatistics, ...]]:
        """Return the prediction in float32, with `return_stats` also the slice statistics of every block.

        Padded points (`mask` False) influence no real point, whatever they hold; their own outputs are meaningless.
        `key` is for dropout (None: evaluation). Raises ValueError if `x` is not [B, N, in_dim] or `mask` not a bool
        array [B, N].
        """
        x = self.embed(x, mask)
        statistics = []
        for block, block_key in zip(self.blocks, split_key(key, len(self.blocks)), strict=True):
            if return_stats:
                # Computed beside the prediction, so that asking for them cannot change it.
                statistics.append(block.att.statistics(block.norm1(x), mask))
            x = block(x, mask, block_key)
        return (self.predict(x), tuple(statistics)) if return_stats else self.predict(x)

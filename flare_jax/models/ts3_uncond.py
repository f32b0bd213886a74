"""TS3: TS1 with slice scores mixed across heads, and a transformer layer on the slices; no paper describes it."""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_integer
from flare_jax.layers.activations import TS3_ACTIVATIONS
from flare_jax.mixers.learned_slice_attention import MixedSliceAttention
from flare_jax.models.ts1_uncond import LearnedSliceStack


class TS3Uncond(LearnedSliceStack):
    """TS3, without random parts.

    `act` is 'gelu' (tanh form), 'silu', 'swiglu', 'geglu' or None for the first. `qk_norm` makes slice queries and
    point keys unit vectors and replaces the softmax over the slices by a constant factor. With a `grid_shape` of 1 to 3
    axes, points last axis fastest, keys and values are convolutions on the grid. Raises ValueError for values out of
    range, and if `num_heads` does not divide `channel_dim`.
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
        grid_shape: tuple[int, ...] | None = None,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        def make_mixer() -> MixedSliceAttention:
            return MixedSliceAttention(
                channel_dim,
                num_heads=num_heads,
                num_slices=num_slices,
                qk_norm=qk_norm,
                grid_shape=grid_shape,
                dtype=dtype,
                rngs=rngs,
            )

        super().__init__(
            in_dim,
            out_dim,
            channel_dim=channel_dim,
            mixers=[make_mixer() for _ in range(check_integer("num_blocks", num_blocks))],
            activations=TS3_ACTIVATIONS,
            mlp_ratio=mlp_ratio,
            act=act,
            dtype=dtype,
            rngs=rngs,
        )

    def __call__(
        self, x: Float[Array, "B N C_in"], mask: Bool[Array, "B N"] | None = None
    ) -> Float[Array, "B N C_out"]:
        """Return the prediction in float32.

        Padded points (`mask` False) influence no real point, whatever they hold; their own outputs are meaningless.
        Raises ValueError if `x` is not [B, N, in_dim] or `mask` not a bool array [B, N], for points that are not those
        of the grid, and for a mask on a structured grid.
        """
        x = self.embed(x, mask)
        for block in self.blocks:
            x = block(x, mask)
        return self.predict(x)

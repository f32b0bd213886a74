"""What the transformer-like PDE models have in common: input projection, blocks, output projection."""

from collections.abc import Callable

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_depths, check_dtype, check_points, check_sizes
from flare_jax.layers.output_projection import OutputProjection
from flare_jax.layers.padding import zero_padding
from flare_jax.layers.residual_mlp import ResidualMLP


class TransformerStack(nnx.Module):
    """Blocks between an input and an output projection, both residual MLPs with the activation `act`.

    `make_block` returns one pre-norm block per call. The projections take the tanh form for `act` 'gelu' or None;
    `in_out_proj_act` gives them another activation than `act`, which is that of the blocks.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        channel_dim: int,
        num_blocks: int,
        make_block: Callable[[], nnx.Module],
        act: str | None,
        in_out_proj_act: str | None,
        rmsnorm: bool,
        out_proj_norm: bool,
        num_layers_in_out_proj: int,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_sizes(in_dim=in_dim, out_dim=out_dim, channel_dim=channel_dim, num_blocks=num_blocks)
        check_depths(num_layers_in_out_proj=num_layers_in_out_proj)
        self.in_dim = in_dim
        self.dtype = check_dtype(dtype)
        projection_act = act if in_out_proj_act is None else in_out_proj_act
        self.in_proj = ResidualMLP(
            in_dim,
            channel_dim,
            channel_dim,
            num_layers=num_layers_in_out_proj,
            act=projection_act,
            input_residual=False,
            embedding=True,
            dtype=dtype,
            rngs=rngs,
        )
        self.blocks = nnx.List([make_block() for _ in range(num_blocks)])
        self.out_proj = OutputProjection(
            channel_dim,
            channel_dim,
            out_dim,
            num_layers=num_layers_in_out_proj,
            act=projection_act,
            use_norm=out_proj_norm,
            rmsnorm=rmsnorm,
            dtype=dtype,
            rngs=rngs,
        )

    def __call__(
        self, x: Float[Array, "B N C_in"], mask: Bool[Array, "B N"] | None = None
    ) -> Float[Array, "B N C_out"]:
        """Return the prediction in float32.

        Padded points (`mask` False) influence no real point, whatever they hold; their own outputs are meaningless.
        Raises ValueError if `x` is not [B, N, in_dim] or `mask` not a bool array [B, N].
        """
        check_points(x, mask, self.in_dim)
        x = self.in_proj(zero_padding(x, mask))
        for block in self.blocks:
            x = block(x, mask)
        return self.out_proj(x).astype(jnp.float32)

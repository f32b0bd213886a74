"""The head of the FLARE family and of the transformer wrappers: an optional norm, then a residual MLP."""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flare_jax.layers.norms import RMS_NORM_EPSILON, make_norm
from flare_jax.layers.residual_mlp import ResidualMLP


class OutputProjection(nnx.Module):
    """`mlp(norm(x))` from `channel_dim` to `out_dim`, without a residual around the last layer."""

    def __init__(
        self,
        channel_dim: int,
        hidden_dim: int,
        out_dim: int,
        *,
        num_layers: int,
        act: str | None = None,
        use_norm: bool = True,
        rmsnorm: bool = False,
        rms_epsilon: float = RMS_NORM_EPSILON,
        dtype: DTypeLike = jnp.float32,
        implementation: str | None = None,
        rngs: nnx.Rngs,
    ):
        norm = {"rmsnorm": rmsnorm, "rms_epsilon": rms_epsilon, "dtype": dtype}
        self.norm = make_norm(channel_dim, **norm) if use_norm else None
        self.mlp = ResidualMLP(
            channel_dim,
            hidden_dim,
            out_dim,
            num_layers=num_layers,
            act=act,
            output_residual=False,
            dtype=dtype,
            implementation=implementation,
            rngs=rngs,
        )

    def __call__(self, x: Float[Array, "... C"]) -> Float[Array, "... C_out"]:
        """Map the last axis."""
        return self.mlp(x, norm=self.norm)

"""The forward pass of the models whose blocks follow one another: embedding, residual blocks, head."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_dtype, check_points, check_sizes, scaled_width
from flare_jax.layers.activations import RESIDUAL_MLP_ACTIVATIONS
from flare_jax.layers.dropout import Key, split_key
from flare_jax.layers.output_projection import OutputProjection
from flare_jax.layers.padding import zero_padding
from flare_jax.layers.residual_mlp import ResidualMLP
from flare_jax.option_groups import blocks, depth, ratio, width
from flare_jax.options import Config, option


class ResidualStack(nnx.Module):
    """Blocks between `embed` and `predict`, which subclasses define beside `in_dim` and the list `blocks`.

    A block is called as `block(x, mask, key)`, and with what `apply_blocks` is given beside it. With `remat` blocks are
    computed again in the backward pass instead of storing what is inside of them.
    """

    in_dim: int
    blocks: nnx.List
    remat: bool = False

    def embed(self, x: Float[Array, "B N C_in"], mask: Bool[Array, "B N"] | None) -> Float[Array, "B N C"]:
        """Check the inputs of the call and return the embedded points."""
        raise NotImplementedError

    def predict(self, x: Float[Array, "B N C"]) -> Float[Array, "B N C_out"]:
        """Return the prediction in float32 from the points after the last block."""
        raise NotImplementedError

    def applications(self) -> Sequence[Callable[..., Array]]:
        """Return the blocks in the order of their application."""
        return list(self.blocks)

    def __call__(
        self, x: Float[Array, "B N C_in"], mask: Bool[Array, "B N"] | None = None, *, key: Key | None = None
    ) -> Float[Array, "B N C_out"]:
        """Return the prediction in float32; `key` is for dropout (None: evaluation).

        Padded points (`mask` False) influence no real point, whatever they hold; their own outputs are meaningless.
        Raises ValueError if `x` is not [B, N, in_dim] or `mask` not a bool array [B, N].
        """
        return self.predict(self.apply_blocks(self.embed(x, mask), mask, key)[0])

    def apply_blocks(
        self,
        x: Float[Array, "B N C"],
        mask: Bool[Array, "B N"] | None,
        key: Key | None,
        *,
        beside: Sequence[Array] | None = None,
        observe: Callable[[Any, Array], Any] | None = None,
    ) -> tuple[Float[Array, "B N C_out"], tuple[Any, ...]]:
        """Apply the blocks, each with its own random key and its entry of `beside`.

        Returns the points after the last block, and what `observe(block, input of the block)` returns for each.
        """
        applications = self.applications()

        def apply(i: int, *inputs: Any) -> Array:
            return applications[i](*inputs)

        apply = jax.checkpoint(apply, static_argnums=0) if self.remat else apply
        observed = []
        for i, block_key in enumerate(split_key(key, len(applications))):
            if observe is not None:
                # Computed beside the prediction, so that asking for it cannot change it.
                observed.append(observe(applications[i], x))
            x = apply(i, x, mask, block_key, *(() if beside is None else (beside[i],)))
        return x, tuple(observed)


@dataclass(frozen=True, kw_only=True)
class ProjectedStackConfig(Config):
    """Options of the models between two residual MLPs."""

    channel_dim: int = width(64)
    num_blocks: int = blocks(8)
    act: str | None = option(None, help="activation of the projections", choices=RESIDUAL_MLP_ACTIVATIONS)
    rmsnorm: bool = option(False, help="RMS norms instead of layer norms")
    out_proj_norm: bool = option(True, help="a norm before the output projection")
    num_layers_in_out_proj: int = depth(2, "input and output projections")
    in_out_proj_ratio: float = ratio(1.0, "input and output projections", unless=("num_layers_in_out_proj", -1))
    in_out_proj_act: str | None = option(
        None, help="activation of the projections where it is not act", choices=RESIDUAL_MLP_ACTIVATIONS
    )
    mlp_implementation: str | None = option(
        None, help="kernel of the residual MLPs (kernels.residual_mlp); None chooses"
    )


class ProjectedStack(ResidualStack):
    """Blocks between an input and an output projection, both residual MLPs; `make_block` returns one per call."""

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        config: ProjectedStackConfig,
        *,
        make_block: Callable[[], nnx.Module],
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_sizes(in_dim=in_dim, out_dim=out_dim)
        self.in_dim = in_dim
        self.config = config
        self.dtype = check_dtype(dtype)
        hidden_dim = scaled_width("in_out_proj_ratio", config.channel_dim, config.in_out_proj_ratio)
        act = config.act if config.in_out_proj_act is None else config.in_out_proj_act
        self.in_proj = ResidualMLP(
            in_dim,
            hidden_dim,
            config.channel_dim,
            num_layers=config.num_layers_in_out_proj,
            act=act,
            input_residual=False,
            embedding=True,
            dtype=dtype,
            implementation=config.mlp_implementation,
            rngs=rngs,
        )
        self.blocks = nnx.List([make_block() for _ in range(config.num_blocks)])
        self.out_proj = OutputProjection(
            config.channel_dim,
            hidden_dim,
            out_dim,
            num_layers=config.num_layers_in_out_proj,
            act=act,
            use_norm=config.out_proj_norm,
            rmsnorm=config.rmsnorm,
            dtype=dtype,
            implementation=config.mlp_implementation,
            rngs=rngs,
        )

    def embed(self, x: Float[Array, "B N C_in"], mask: Bool[Array, "B N"] | None) -> Float[Array, "B N C"]:
        """Check the inputs of the call and return the embedded points."""
        check_points(x, mask, self.in_dim)
        return self.in_proj(zero_padding(x, mask))

    def predict(self, x: Float[Array, "B N C"]) -> Float[Array, "B N C_out"]:
        """Return the prediction in float32 from the points after the last block."""
        return self.out_proj(x).astype(jnp.float32)

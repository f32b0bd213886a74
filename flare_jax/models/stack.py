"""The forward pass of the models whose blocks follow one another: embedding, residual blocks, head."""

from collections.abc import Callable, Iterable, Sequence
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
from flare_jax.layers.norms import RMS_NORM_EPSILON
from flare_jax.layers.output_projection import OutputProjection
from flare_jax.layers.padding import zero_padding
from flare_jax.layers.residual_mlp import ResidualMLP
from flare_jax.option_groups import blocks, depth, mlp_kernel, ratio, recomputed, width
from flare_jax.options import Config, option

# What blocks pass on: the points, or a tuple of them and of what accompanies them.
Stream = Float[Array, "B N _"] | tuple[Array, ...]


class ResidualStack(nnx.Module):
    """Blocks between `embed` and `predict`, which subclasses define beside `in_dim` and the list `blocks`.

    A block is called as `block(x, mask, key)`, and with what `apply_blocks` is given beside it. With `remat` blocks are
    computed again in the backward pass instead of storing what is inside of them.
    """

    in_dim: int
    blocks: nnx.List
    remat: bool = False

    def embed(self, x: Float[Array, "B N C_in"], mask: Bool[Array, "B N"] | None) -> Stream:
        """Check the inputs of the call and return the embedded points."""
        raise NotImplementedError

    def predict(self, x: Stream) -> Float[Array, "B N C_out"]:
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
        x: Stream,
        mask: Bool[Array, "B N"] | None,
        key: Key | None,
        *,
        beside: Sequence[Any] | None = None,
        observe: Callable[..., Any] | None = None,
    ) -> tuple[Stream, tuple[Any, ...]]:
        """Apply the blocks, each with its own random key and its entry of `beside`.

        Returns the points after the last block, and what `observe(block, *inputs of the block)` returns for each.
        """
        applications = self.applications()

        def apply(i: int, *inputs: Any) -> Stream:
            return applications[i](*inputs)

        apply = jax.checkpoint(apply, static_argnums=0) if self.remat else apply
        observed = []
        for i, block_key in enumerate(split_key(key, len(applications))):
            inputs = (x, mask, block_key, *(() if beside is None else (beside[i],)))
            if observe is not None:
                # Computed beside the prediction, so that asking for it cannot change it.
                observed.append(observe(applications[i], *inputs))
            x = apply(i, *inputs)
        return x, tuple(observed)


@dataclass(frozen=True, kw_only=True)
class StackConfig(Config):
    """Options of the models between two residual MLPs."""

    channel_dim: int = width(64)
    num_blocks: int = blocks(8)
    act: str | None = option(None, help="activation of the projections", choices=RESIDUAL_MLP_ACTIVATIONS)
    rmsnorm: bool = option(False, help="RMS norms instead of layer norms")
    out_proj_norm: bool = option(True, help="a norm before the output projection")
    num_layers_in_out_proj: int = depth(2, "input and output projections")
    mlp_implementation: str | None = mlp_kernel()
    remat: bool = recomputed()

    @property
    def projection_width(self) -> int:
        """The hidden width of the projections."""
        return self.channel_dim

    @property
    def projection_act(self) -> str | None:
        """The activation of the projections."""
        return self.act


@dataclass(frozen=True, kw_only=True)
class ProjectedStackConfig(StackConfig):
    """The same with projections of another hidden width and activation."""

    in_out_proj_ratio: float = ratio(1.0, "input and output projections", unless=("num_layers_in_out_proj", -1))
    in_out_proj_act: str | None = option(
        None, help="activation of the projections where it is not act", choices=RESIDUAL_MLP_ACTIVATIONS
    )

    @property
    def projection_width(self) -> int:
        """The hidden width of the projections."""
        return scaled_width("in_out_proj_ratio", self.channel_dim, self.in_out_proj_ratio)

    @property
    def projection_act(self) -> str | None:
        """The activation of the projections."""
        return self.act if self.in_out_proj_act is None else self.in_out_proj_act


class ProjectedStack(ResidualStack):
    """Blocks between an input and an output projection, both residual MLPs.

    `blocks` are taken after the input projection is made and before the output projection: a generator that makes them
    draws its random numbers there, a list has drawn them before. `rms_epsilon` is that of the output projection.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        config: StackConfig,
        *,
        blocks: Iterable[nnx.Module],
        rms_epsilon: float = RMS_NORM_EPSILON,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_sizes(in_dim=in_dim, out_dim=out_dim)
        self.in_dim = in_dim
        self.config = config
        self.remat = config.remat
        self.dtype = check_dtype(dtype)
        channel_dim, hidden_dim = config.channel_dim, config.projection_width
        shared = {
            "num_layers": config.num_layers_in_out_proj,
            "act": config.projection_act,
            "dtype": dtype,
            "implementation": config.mlp_implementation,
            "rngs": rngs,
        }
        self.in_proj = ResidualMLP(in_dim, hidden_dim, channel_dim, input_residual=False, embedding=True, **shared)
        self.blocks = nnx.List(blocks)
        self.out_proj = OutputProjection(
            channel_dim,
            hidden_dim,
            out_dim,
            use_norm=config.out_proj_norm,
            rmsnorm=config.rmsnorm,
            rms_epsilon=rms_epsilon,
            **shared,
        )

    def embed(self, x: Float[Array, "B N C_in"], mask: Bool[Array, "B N"] | None) -> Float[Array, "B N C"]:
        """Check the inputs of the call and return the embedded points."""
        check_points(x, mask, self.in_dim)
        return self.in_proj(zero_padding(x, mask))

    def predict(self, x: Float[Array, "B N C"]) -> Float[Array, "B N C_out"]:
        """Return the prediction in float32 from the points after the last block."""
        return self.out_proj(x).astype(jnp.float32)

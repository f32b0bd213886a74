"""The residual MLP that FLARE uses for key and value projections, feed-forward parts and in/out projections."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flare_jax.checks import check_dtype, check_integer
from flare_jax.layers.activations import FEED_FORWARD_ACTIVATIONS, RESIDUAL_MLP_ACTIVATIONS, find_activation
from flare_jax.layers.linear import InputLinear, Linear
from flare_jax.layers.norms import LayerNorm, RMSNorm
from flare_jax.layers.sharding import on_each_device
from kernels.residual_mlp import HeadNorm, Projection, residual_mlp, residual_mlp_branches


class ResidualMLP(nnx.Module):
    """MLP with `num_layers` inner residual layers between an input and an output layer (FLARE, arXiv 2508.12594).

    `num_layers = -1` is a single linear layer `fc`; otherwise there are `num_layers + 2` of them: `fc1`, `fcs`, `fc2`.
    A residual connection whose two widths differ is off; for a single linear layer both flags must be set.
    `implementation` is that of `kernels.residual_mlp`; None chooses. With `embedding` x are coordinates and the like:
    the MLP computes in float32, its first layer outside of the kernel, and only its result has the compute dtype.
    """

    def __init__(
        self,
        in_dim: int,
        hidden_dim: int,
        out_dim: int,
        *,
        num_layers: int,
        act: str | None = None,
        input_residual: bool = True,
        output_residual: bool = True,
        embedding: bool = False,
        dtype: DTypeLike = jnp.float32,
        implementation: str | None = None,
        rngs: nnx.Rngs,
    ):
        check_integer("num_layers", num_layers, minimum=-1)
        self.out_dtype = check_dtype(dtype)
        self.dtype = check_dtype(jnp.float32 if embedding else dtype)
        self.embedding = embedding
        self.implementation = implementation
        self.activation = find_activation(act, RESIDUAL_MLP_ACTIVATIONS)
        if num_layers == -1:
            both = input_residual and output_residual and in_dim == out_dim
            self.input_residual = self.output_residual = both
            self.fc = self._first_layer(in_dim, out_dim, rngs)
            return
        self.input_residual = input_residual and in_dim == hidden_dim
        self.output_residual = output_residual and hidden_dim == out_dim
        self.fc1 = self._first_layer(in_dim, hidden_dim, rngs)
        self.fcs = nnx.List([Linear(hidden_dim, hidden_dim, dtype=self.dtype, rngs=rngs) for _ in range(num_layers)])
        self.fc2 = Linear(hidden_dim, out_dim, dtype=self.dtype, rngs=rngs)

    def _first_layer(self, in_dim: int, out_dim: int, rngs: nnx.Rngs) -> Linear:
        if self.embedding:
            return InputLinear(in_dim, out_dim, rngs=rngs)
        return Linear(in_dim, out_dim, dtype=self.dtype, rngs=rngs)

    @property
    def layers(self) -> list[Linear]:
        """The linear layers in the order of their application."""
        return [self.fc] if hasattr(self, "fc") else [self.fc1, *self.fcs, self.fc2]

    def branch(self) -> tuple[tuple[Float[Array, "_ _"], ...], tuple[Float[Array, "_"], ...]]:
        """Return the kernels and the biases in the order of their application."""
        return tuple(layer.kernel[...] for layer in self.layers), tuple(layer.bias[...] for layer in self.layers)

    def __call__(
        self,
        x: Float[Array, "... C_in"],
        *,
        norm: LayerNorm | RMSNorm | None = None,
        projection: Linear | None = None,
        skip: Float[Array, "... C"] | None = None,
        outer_residual: bool = False,
    ) -> Float[Array, "... C_out"]:
        """Map the last axis, with what surrounds the MLP in a block done by the same kernel.

        `projection` replaces x by `skip + projection(x)`, `norm` normalises what enters the MLP, and `outer_residual`
        adds the unnormalised input to the result; an `embedding` takes none of them.
        """
        if self.embedding:
            return self._embed(x).astype(self.out_dtype)
        return self._apply_kernel(
            x,
            self.branch(),
            self.input_residual,
            norm=norm,
            projection=projection,
            skip=skip,
            outer_residual=outer_residual,
        )

    def _embed(self, x: Float[Array, "... C_in"]) -> Float[Array, "... C_out"]:
        """Apply the first layer here, and in the kernel the layers after it, a residual MLP themselves."""
        first, *rest = self.layers
        y = first(x)
        if not rest:
            return y + x if self.input_residual else y
        hidden = FEED_FORWARD_ACTIVATIONS[self.activation](y)
        hidden = hidden + x if self.input_residual else hidden
        weights, biases = self.branch()
        return self._apply_kernel(hidden, (weights[1:], biases[1:]), True)

    def _apply_kernel(
        self,
        x: Float[Array, "... C_in"],
        branch: tuple[tuple[Array, ...], tuple[Array, ...]],
        input_residual: bool,
        *,
        norm: LayerNorm | RMSNorm | None = None,
        projection: Linear | None = None,
        skip: Float[Array, "... C"] | None = None,
        outer_residual: bool = False,
    ) -> Float[Array, "... C_out"]:
        def kernel(rows: Any, parameters: Any, _: str | None) -> Array:
            (x, skip), (branch, front, norm) = rows, parameters
            return residual_mlp(
                x,
                *branch,
                activation=self.activation,
                residual_in=input_residual,
                residual_out=self.output_residual,
                norm=norm,
                projection=None if front is None else Projection(weight=front[0], bias=front[1], skip=skip),
                outer_residual=outer_residual,
                implementation=self.implementation,
            )

        return on_each_device(
            kernel,
            (x.astype(self.dtype), None if skip is None else skip.astype(self.dtype)),
            (
                branch,
                None if projection is None else (projection.kernel[...], projection.bias[...]),
                None if norm is None else norm.operand(),
            ),
            leading=x.shape[:-1],
            implementation=self.implementation,
        )


def apply_branches(
    mlps: Sequence[ResidualMLP],
    x: Float[Array, "... C"],
    norm: LayerNorm | RMSNorm | None = None,
    head_norms: Sequence[HeadNorm | None] | None = None,
) -> tuple[Float[Array, "... _"], ...]:
    """Apply MLPs of the same activation to one input, normalised by `norm` if given, in one kernel.

    `head_norms` normalise the results per head, by the same kernel; None stands for no norm.
    """
    first = mlps[0]
    return _apply_together(
        mlps,
        x,
        norm,
        head_norms,
        activation=first.activation,
        residual=True,
        dtype=first.dtype,
        implementation=first.implementation,
    )


def apply_linears(
    layers: Sequence[Linear],
    x: Float[Array, "... C"],
    norm: LayerNorm | RMSNorm | None = None,
    head_norms: Sequence[HeadNorm | None] | None = None,
    *,
    implementation: str | None = None,
) -> tuple[Float[Array, "... _"], ...]:
    """Apply linear layers as `apply_branches` applies MLPs; `implementation` names the kernel."""
    # A single layer has no activation; the kernel wants the name of one.
    options = {"activation": find_activation(None, RESIDUAL_MLP_ACTIVATIONS), "residual": False}
    return _apply_together(layers, x, norm, head_norms, **options, dtype=layers[0].dtype, implementation=implementation)


def _apply_together(
    branches: Sequence[ResidualMLP | Linear],
    x: Float[Array, "... C"],
    norm: LayerNorm | RMSNorm | None,
    head_norms: Sequence[HeadNorm | None] | None,
    *,
    activation: str,
    residual: bool,
    dtype: DTypeLike,
    implementation: str | None,
) -> tuple[Float[Array, "... _"], ...]:
    def kernel(x: Array, parameters: Any, _: str | None) -> tuple[Array, ...]:
        branches, norm, head_norms = parameters
        return residual_mlp_branches(
            x,
            branches,
            activation=activation,
            residual_in=residual,
            residual_out=residual,
            norm=norm,
            head_norms=head_norms,
            implementation=implementation,
        )

    return on_each_device(
        kernel,
        x.astype(dtype),
        ([branch.branch() for branch in branches], None if norm is None else norm.operand(), head_norms),
        leading=x.shape[:-1],
        implementation=implementation,
    )

"""The residual MLP that FLARE uses for key and value projections, feed-forward parts and in/out projections."""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flare_jax.checks import check_dtype, check_integer
from flare_jax.layers.activations import RESIDUAL_MLP_ACTIVATIONS, Activation, find_activation
from flare_jax.layers.linear import Linear, linear


class ResidualMLP(nnx.Module):
    """MLP with `num_layers` inner residual layers between an input and an output layer (FLARE, arXiv 2508.12594).

    `num_layers = -1` is a single linear layer `fc`; otherwise there are `num_layers + 2` of them: `fc1`, `fcs`, `fc2`.
    A residual connection whose two widths differ is off; for a single linear layer both flags must be set.
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
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_integer("num_layers", num_layers, minimum=-1)
        self.dtype = check_dtype(dtype)
        self.activation = find_activation(act, RESIDUAL_MLP_ACTIVATIONS)
        if num_layers == -1:
            both = input_residual and output_residual and in_dim == out_dim
            self.input_residual = self.output_residual = both
            self.fc = Linear(in_dim, out_dim, dtype=dtype, rngs=rngs)
            return
        self.input_residual = input_residual and in_dim == hidden_dim
        self.output_residual = output_residual and hidden_dim == out_dim
        self.fc1 = Linear(in_dim, hidden_dim, dtype=dtype, rngs=rngs)
        self.fcs = nnx.List([Linear(hidden_dim, hidden_dim, dtype=dtype, rngs=rngs) for _ in range(num_layers)])
        self.fc2 = Linear(hidden_dim, out_dim, dtype=dtype, rngs=rngs)

    @property
    def layers(self) -> list[Linear]:
        """The linear layers in the order of their application."""
        return [self.fc] if hasattr(self, "fc") else [self.fc1, *self.fcs, self.fc2]

    def __call__(self, x: Float[Array, "... C_in"]) -> Float[Array, "... C_out"]:
        """Map the last axis."""
        return residual_mlp(
            x.astype(self.dtype),
            [layer.kernel[...] for layer in self.layers],
            [layer.bias[...] for layer in self.layers],
            activation=self.activation,
            input_residual=self.input_residual,
            output_residual=self.output_residual,
        )


def residual_mlp(
    x: Float[Array, "... C_in"],
    kernels: Sequence[Float[Array, "_ _"]],
    biases: Sequence[Float[Array, "_"]],
    *,
    activation: Activation,
    input_residual: bool,
    output_residual: bool,
) -> Float[Array, "... C_out"]:
    """Return `fc2(u)`, where `u` starts as `act(fc1 x)` and each inner layer adds `act(fc u)`.

    The residual flags add `x` to the first `u` and the last `u` to the result. One kernel alone is a linear layer.
    """
    if len(kernels) == 1:
        y = linear(x, kernels[0], biases[0])
        return x + y if input_residual and output_residual else y
    hidden = activation(linear(x, kernels[0], biases[0]))
    if input_residual:
        hidden = x + hidden
    for kernel, bias in zip(kernels[1:-1], biases[1:-1], strict=True):
        hidden = hidden + activation(linear(hidden, kernel, bias))
    y = linear(hidden, kernels[-1], biases[-1])
    return hidden + y if output_residual else y

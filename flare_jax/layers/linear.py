"""Linear layer: float32 parameters, products in the compute dtype."""

import jax.numpy as jnp
from flax import nnx
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flare_jax.checks import check_dtype, check_integer
from flare_jax.layers.initializers import linear_kernel, zeros
from flare_jax.params import Matrix
from kernels import times_matrix


class Linear(nnx.Module):
    """`x @ kernel + bias`, with `kernel` [C_in, C_out] ~ Normal(0, 0.02²) by default and `bias` [C_out] = 0."""

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        use_bias: bool = True,
        kernel_init: Initializer = linear_kernel,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        shape = (check_integer("in_dim", in_dim), check_integer("out_dim", out_dim))
        self.dtype = check_dtype(dtype)
        self.kernel = Matrix(kernel_init(rngs.params(), shape, jnp.float32))
        self.bias = nnx.Param(zeros(out_dim)) if use_bias else None

    def branch(self) -> tuple[tuple[Float[Array, "C_in C_out"]], tuple[Float[Array, " C_out"]]]:
        """Return kernel and bias, zero where there is none, as a branch of `kernels.residual_mlp`."""
        bias = jnp.zeros(self.kernel.shape[-1], jnp.float32) if self.bias is None else self.bias[...]
        return (self.kernel[...],), (bias,)

    def __call__(self, x: Float[Array, "... C_in"]) -> Float[Array, "... C_out"]:
        """Map the last axis."""
        bias = None if self.bias is None else self.bias[...]
        return linear(x.astype(self.dtype), self.kernel[...], bias)


class InputLinear(Linear):
    """First layer of coordinates, times or distances: float32 products, whatever computes the layers after it.

    bfloat16 leaves 129 places in [0.5, 1], and the TF32 products of GPUs 1025.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        use_bias: bool = True,
        kernel_init: Initializer = linear_kernel,
        rngs: nnx.Rngs,
    ):
        super().__init__(in_dim, out_dim, use_bias=use_bias, kernel_init=kernel_init, rngs=rngs)

    def __call__(self, x: Float[Array, "... C_in"]) -> Float[Array, "... C_out"]:
        """Map the last axis to float32."""
        y = times_matrix(x.astype(jnp.float32), self.kernel[...], "highest")
        return y if self.bias is None else y + self.bias[...]


def linear(
    x: Float[Array, "... C_in"], kernel: Float[Array, "C_in C_out"], bias: Float[Array, "C_out"] | None
) -> Float[Array, "... C_out"]:
    """Return `x @ kernel + bias` in the dtype of `x`."""
    y = times_matrix(x, kernel.astype(x.dtype))
    return y if bias is None else y + bias.astype(x.dtype)

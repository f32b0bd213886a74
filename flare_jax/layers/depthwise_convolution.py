"""Depthwise convolution along a sequence: one short filter per channel."""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flare_jax.checks import check_dtype, check_integer
from flare_jax.layers.initializers import fan_in_uniform


class DepthwiseConvolution(nnx.Module):
    """`y_n = bias + Σ_j kernel_j x_{n+j−s}` per channel over j < width, with zeros outside of the sequence.

    The offset s is width − 1 if `causal`, so that no later entry is read, else width // 2 (centred, odd widths only).
    `kernel` [width, 1, C] and `bias` [C] ~ Uniform(−1/√width, 1/√width), the default of PyTorch.
    """

    def __init__(self, channel_dim: int, *, width: int, causal: bool, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        check_integer("channel_dim", channel_dim)
        check_integer("conv_width", width)
        if not causal and width % 2 == 0:
            raise ValueError(f"conv_width is {width} but a centred convolution needs an odd one; use {width + 1}")
        self.causal = causal
        self.dtype = check_dtype(dtype)
        initialize = fan_in_uniform(width)
        self.kernel = nnx.Param(initialize(rngs.params(), (width, 1, channel_dim), jnp.float32))
        self.bias = nnx.Param(initialize(rngs.params(), (channel_dim,), jnp.float32))

    def __call__(self, x: Float[Array, "B N C"]) -> Float[Array, "B N C"]:
        """Filter along N."""
        taps = self.kernel[...][:, 0].astype(self.dtype)
        width, length = len(taps), x.shape[1]
        before = width - 1 if self.causal else width // 2
        padded = jnp.pad(x.astype(self.dtype), ((0, 0), (before, width - 1 - before), (0, 0)))
        # A sum of a few shifted copies fuses with its surroundings; grouped convolutions of one channel are slow.
        y = sum(padded[:, tap : tap + length] * taps[tap] for tap in range(width))
        return y + self.bias[...].astype(self.dtype)

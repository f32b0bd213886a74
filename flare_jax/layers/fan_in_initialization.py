"""Initialisation with the defaults of PyTorch, for the models whose original never replaces them."""

import jax.numpy as jnp
from flax import nnx

from flare_jax.layers.initializers import fan_in_uniform
from flare_jax.layers.linear import Linear


def draw_fan_in_uniform(module: nnx.Module, rngs: nnx.Rngs) -> None:
    """Redraw kernels and biases of all linear layers inside `module` from Uniform(±1/√C_in)."""
    for _, layer in nnx.iter_modules(module):
        if isinstance(layer, Linear):
            initialize = fan_in_uniform(layer.kernel.shape[0])
            layer.kernel[...] = initialize(rngs.params(), layer.kernel.shape, jnp.float32)
            if layer.bias is not None:
                layer.bias[...] = initialize(rngs.params(), layer.bias.shape, jnp.float32)

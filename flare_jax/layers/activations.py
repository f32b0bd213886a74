"""Activation functions by name; `gelu` means another formula in different layers, so each kind has its own table."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flare_jax.checks import check_choice

Activation = Callable[[Array], Array]
Found = TypeVar("Found")


def gelu_tanh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return ½x(1 + tanh(√(2/π)(x + 0.044715x³))), the approximate GELU."""
    return jax.nn.gelu(x, approximate=True)


def gelu_erf(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return ½x(1 + erf(x/√2)), the exact GELU."""
    return jax.nn.gelu(x, approximate=False)


def silu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return x·sigmoid(x)."""
    return jax.nn.silu(x)


def leaky_relu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return x where it is positive and 0.1·x elsewhere."""
    return jax.nn.leaky_relu(x, 0.1)


def swiglu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return a·silu(g) of the two halves a, g of the last axis."""
    value, gate = jnp.split(x, 2, axis=-1)
    return value * silu(gate)


def geglu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return a·gelu_tanh(g) of the two halves a, g of the last axis."""
    value, gate = jnp.split(x, 2, axis=-1)
    return value * gelu_tanh(gate)


# These halve the width of their argument.
GATED_ACTIVATIONS = frozenset({swiglu, geglu})

_EXPLICIT = {"gelu_tanh": gelu_tanh, "gelu_erf": gelu_erf, "silu": silu}

# The published FLARE checkpoints were trained with these two meanings of `gelu`. Residual MLPs run as one fused
# operation, which knows its activations by name.
RESIDUAL_MLP_ACTIVATIONS: Mapping[str | None, str] = {None: "gelu_tanh", "gelu": "gelu_tanh"} | {
    n: n for n in _EXPLICIT
}
FEED_FORWARD_ACTIVATIONS: Mapping[str | None, Activation] = {None: gelu_erf, "gelu": gelu_erf} | _EXPLICIT

POINTWISE_ACTIVATIONS: Mapping[str | None, Activation] = {
    "gelu": gelu_erf,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "relu": jax.nn.relu,
    "leaky_relu": leaky_relu,
    "softplus": jax.nn.softplus,
    "ELU": jax.nn.elu,
} | _EXPLICIT
TS1_ACTIVATIONS: Mapping[str | None, Activation] = FEED_FORWARD_ACTIVATIONS | {"swiglu": swiglu}
TS3_ACTIVATIONS: Mapping[str | None, Activation] = (
    {None: gelu_tanh, "gelu": gelu_tanh} | _EXPLICIT | {"swiglu": swiglu, "geglu": geglu}
)


def find_activation(name: str | None, table: Mapping[str | None, Found]) -> Found:
    """Return the activation that `table` gives the name; raise ValueError with a suggestion for an unknown one."""
    check_choice("act", name, table)
    return table[name]

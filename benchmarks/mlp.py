"""The two halves of a FLARE block that the fused residual MLPs compute, as the benchmarks call them.

`branches` is the norm with key and value MLPs of three inner layers, `block` the output projection, residual, norm,
feed-forward MLP and residual.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kernels.residual_mlp import Norm, Projection, residual_mlp, residual_mlp_branches
from kernels.residual_mlp.shapes import INNER_LAYERS

# Dtype of the rows and precision of the products.
ARITHMETIC = {"tf32": ("float32", "default"), "float32": ("float32", "highest"), "bf16": ("bfloat16", "default")}


class Setting(NamedTuple):
    """Which half, "branches" or "block", at which size."""

    op: str
    rows: int
    channels: int
    arithmetic: str


def make_arrays(setting: Setting) -> dict[str, Any]:
    """Return random operands and output cotangents."""
    dtype, _ = ARITHMETIC[setting.arithmetic]
    channels, keys = setting.channels, iter(jax.random.split(jax.random.key(0), 100))

    def rows() -> jax.Array:
        return jax.random.normal(next(keys), (setting.rows, channels), dtype)

    def weight() -> jax.Array:
        return 0.5 * channels**-0.5 * jax.random.normal(next(keys), (channels, channels))

    def branch() -> tuple:
        layers = range(INNER_LAYERS + 2)
        return tuple(weight() for _ in layers), tuple(jnp.zeros(channels) for _ in layers)

    norm = Norm(scale=jnp.ones(channels), bias=jnp.zeros(channels), kind="layer", epsilon=1e-5)
    if setting.op == "branches":
        return {"operands": (rows(), (branch(), branch()), norm), "cotangents": (rows(), rows())}
    projection = Projection(weight=weight(), bias=jnp.zeros(channels), skip=rows())
    return {"operands": (rows(), branch(), norm, projection), "cotangents": (rows(),)}


def apply(setting: Setting, implementation: str | None, operands: tuple) -> tuple[jax.Array, ...]:
    """Call the op."""
    options = {"residual_in": True, "residual_out": True, "implementation": implementation}
    options["precision"] = ARITHMETIC[setting.arithmetic][1]
    if setting.op == "branches":
        x, branches, norm = operands
        return residual_mlp_branches(x, branches, norm=norm, **options)
    x, (weights, biases), norm, projection = operands
    return (residual_mlp(x, weights, biases, norm=norm, projection=projection, outer_residual=True, **options),)

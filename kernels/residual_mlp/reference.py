"""The definition in plain jnp, and the fallback on every device.

Hidden states are stored in the dtype of x as any XLA program would; sums, norms and activations are float32.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
from jax import Array, lax

from kernels._products import times_matrix
from kernels.residual_mlp.operands import HeadNorm, Norm, Operands, Projection, Structure

_ACTIVATIONS = {
    "gelu_tanh": lambda z: jax.nn.gelu(z, approximate=True),
    "gelu_erf": lambda z: jax.nn.gelu(z, approximate=False),
    "silu": jax.nn.silu,
}


def residual_mlp_reference(
    structure: Structure, operands: Operands, precision: lax.Precision | None
) -> tuple[Array, ...]:
    """Return one `[..., C_out]` array per branch; `precision` None follows the configured one."""
    dtype = operands.x.dtype
    stream = project(operands.x, operands.projection, precision)
    entry = stream if operands.norm is None else normalize(stream, operands.norm).astype(dtype)
    results = []
    for layers, branch in zip(structure.branches, operands.branches, strict=True):
        hidden = entry
        for index, (layer, weight, bias) in enumerate(zip(layers, branch.weights, branch.biases, strict=True)):
            change = _linear(hidden, weight, bias, precision)
            if index + 1 < len(layers):
                change = _ACTIVATIONS[structure.activation](change)
            hidden = (_widen(hidden) + change if layer.residual else change).astype(dtype)
        if branch.head_norm is not None:
            hidden = normalize_heads(hidden, branch.head_norm)
        results.append(add(stream, hidden) if structure.outer_residual else hidden)
    return tuple(results)


def project(x: Array, projection: Projection | None, precision: lax.Precision | None) -> Array:
    """Return the stream: x, or what a projection makes of it, in the dtype of x."""
    if projection is None:
        return x
    projected = _linear(x, projection.weight, projection.bias, precision)
    return (_widen(projection.skip) + projected).astype(x.dtype)


def add(first: Array, second: Array) -> Array:
    """Add two arrays in float32 or wider, and round the sum to their dtype."""
    return (_widen(first) + _widen(second)).astype(first.dtype)


@jax.checkpoint
def normalize_heads(values: Array, norm: HeadNorm) -> Array:
    """Return `[..., C]` with every head normalised, in its dtype; the backward pass recomputes the norm."""
    heads = values.reshape(*values.shape[:-1], norm.heads, -1)

    def of_heads(vector: Array | None) -> Array | None:
        return None if vector is None else vector.reshape(heads.shape[-2:])

    scaled = replace(norm, scale=of_heads(norm.scale), bias=of_heads(norm.bias))
    return normalize(heads, scaled).reshape(values.shape).astype(values.dtype)


def _widen(values: Array) -> Array:
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))


def _linear(values: Array, weight: Array, bias: Array, precision: lax.Precision | None) -> Array:
    product = times_matrix(values, weight.astype(values.dtype), precision)
    return _widen(product) + bias.astype(jnp.promote_types(values.dtype, jnp.float32))


def normalize(stream: Array, norm: Norm) -> Array:
    """Return the rows normalised, scaled and shifted, in float32 or wider."""
    values = _widen(stream)
    if norm.kind == "layer":
        values = values - jnp.mean(values, axis=-1, keepdims=True)
    normalized = values * lax.rsqrt(jnp.mean(jnp.square(values), axis=-1, keepdims=True) + norm.epsilon)
    scaled = normalized if norm.scale is None else normalized * norm.scale
    return scaled if norm.bias is None else scaled + norm.bias

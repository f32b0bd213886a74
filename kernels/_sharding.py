"""Typing of values under `jax.shard_map`: which mesh axes an array varies over."""

import jax


def varying_axes(x: jax.Array) -> frozenset[str]:
    """Return the mesh axes over which `x` differs between devices; empty outside `jax.shard_map`."""
    return frozenset(jax.typeof(x).manual_axis_type.varying)


def vary_like(x: jax.Array, *others: jax.Array) -> jax.Array:
    """Mark `x` as varying over every mesh axis that one of `others` varies over; free, and a no-op outside shard_map.

    The transpose of this cast is the sum over those axes, so the gradients of replicated arrays come out complete.
    """
    missing = frozenset().union(*map(varying_axes, others)) - varying_axes(x)
    return jax.lax.pcast(x, tuple(sorted(missing)), to="varying") if missing else x

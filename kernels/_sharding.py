"""Typing of values under `jax.shard_map`, the mesh axes an array varies over: the one place that knows it.

The code of implementations never meets these types: `kernels._target.on_target` hands plain arrays to the code of an
implementation and types its results.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
from jax.sharding import AbstractDevice, AbstractMesh, AxisType, NamedSharding, use_abstract_mesh
from jax.sharding import PartitionSpec as P


def varying_axes(x: jax.Array) -> frozenset[str]:
    """Return the mesh axes over which `x` differs between devices; empty outside `jax.shard_map`."""
    return frozenset(jax.typeof(x).manual_axis_type.varying)


def vary_like(x: jax.Array, *others: jax.Array) -> jax.Array:
    """Mark `x` as varying over every mesh axis that one of `others` varies over; free, and a no-op outside shard_map.

    The transpose of this cast is the sum over those axes, so the gradients of replicated arrays come out complete.
    """
    missing = frozenset().union(*map(varying_axes, others)) - varying_axes(x)
    return jax.lax.pcast(x, tuple(sorted(missing)), to="varying") if missing else x


def vary_alike(tree: Any, *others: Any) -> Any:
    """Mark every array of `tree` as varying over all mesh axes that any array of `tree` or `others` varies over."""
    everything = jax.tree.leaves((tree, others))
    return jax.tree.map(lambda x: vary_like(x, *everything), tree)


def complete(cotangent: jax.Array, like: jax.Array, axis_name: str | None) -> jax.Array:
    """Return the whole cotangent of an array that is the same on all devices of the mesh axis `axis_name`.

    Where `jax.shard_map` types its arrays (`check_vma`), so that `like`, an array of points, varies over the axis, it
    arrives whole. Otherwise each device has its share, and they are summed.
    """
    if axis_name is None or axis_name in varying_axes(like):
        return cotangent
    return jax.lax.psum(cotangent, axis_name)


def plain_type(x: Any) -> jax.core.ShapedArray:
    """Return the type of an array, or of a type, without what it says of meshes; call it inside `outside_mesh`."""
    return jax.core.ShapedArray(x.shape, x.dtype)


def typed_like(typed: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """Return the type of an array of this shape and dtype that varies over the same mesh axes as `typed`."""
    sharding = NamedSharding(typed.sharding.mesh, P(*[None] * len(shape)))
    return typed.update(shape=shape, dtype=dtype, weak_type=False, sharding=sharding)


@contextmanager
def outside_mesh(device_kind: str | None = None) -> Iterator[None]:
    """Enter a context without the axes of any mesh; with `device_kind` programs are traced for such a GPU."""
    with use_abstract_mesh(AbstractMesh((), ())):
        if device_kind is None:
            yield
            return
        device = AbstractDevice(device_kind, None, "gpu")
        with use_abstract_mesh(AbstractMesh((1,), ("device",), axis_types=(AxisType.Auto,), abstract_device=device)):
            yield

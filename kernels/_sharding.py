"""Typing of values under `jax.shard_map`, the mesh axes an array varies over: the one place that knows it.

The code of implementations never meets these types: `kernels._target.on_target` hands plain arrays to the code of an
implementation and types its results.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
from jax.sharding import AbstractDevice, AbstractMesh, AxisType, NamedSharding, use_abstract_mesh
from jax.sharding import PartitionSpec as P


def varying_axes(x: jax.Array) -> frozenset[str]:
    """Return the mesh axes over which `x` differs between devices; empty outside `jax.shard_map`."""
    return frozenset(jax.typeof(x).manual_axis_type.varying)


def is_cut(x: jax.Array) -> bool:
    """Return whether the type of `x` says that devices share it, as in meshes of explicit axes."""
    return any(axis is not None for axis in jax.typeof(x).sharding.spec)


def vary_alike(tree: Any) -> Any:
    """Mark every array of `tree` as varying over all mesh axes that any of them varies over; free, and often nothing.

    The transpose of this cast is the sum over those axes, so the gradients of replicated arrays come out complete.
    """
    arrays, structure = jax.tree.flatten(tree)
    axes = [varying_axes(x) for x in arrays]
    everywhere = frozenset().union(*axes)
    return structure.unflatten(
        [
            jax.lax.pcast(x, tuple(sorted(everywhere - own)), to="varying") if everywhere - own else x
            for x, own in zip(arrays, axes, strict=True)
        ]
    )


def untyped_shard_map(function: Callable[..., Any], mesh: AbstractMesh, in_specs: Any, out_specs: Any) -> Any:
    """Return `jax.shard_map` of a function that may call code without these types.

    The transpose then sums the gradients of replicated arrays over the devices, which is the same sum.
    """
    return jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)


def complete(cotangent: jax.Array, like: jax.Array, axis_name: str | None) -> jax.Array:
    """Return the whole cotangent of an array that is the same on all devices of the mesh axis `axis_name`.

    Where `jax.shard_map` types its arrays, so that `like`, an array of points, varies over the axis, it
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


def result_like(x: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    """Return the shape of a result that varies over the same mesh axes as `x`, as JAX asks even outside of a mesh."""
    return jax.ShapeDtypeStruct(shape, dtype, manual_axis_type=jax.typeof(x).manual_axis_type)


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

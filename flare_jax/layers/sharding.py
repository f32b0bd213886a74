"""Kernels on a mesh of devices: XLA cannot cut a kernel, so each device calls it on its own samples and points.

The mesh is the one that the program is traced under (`jax.set_mesh`, `jax.sharding.use_abstract_mesh`), with Auto axes;
of these `data` splits samples and `points` splits points. Without such a mesh nothing is split.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from kernels._sharding import untyped_shard_map

AXES = ("data", "points")
# Plain array code, which XLA cuts by itself.
CUT_BY_XLA = ("reference", "xla")
# Inside `on_own_points` the mesh axis that the points are split over, or None, in a tuple; else no tuple.
_OWN_POINTS = jax.make_user_context(None)


def on_each_device(
    kernel: Callable[[Any, Any, str | None], Any],
    rows: Any,
    parameters: Any,
    *,
    leading: Sequence[int],
    implementation: str | None,
    over_points: bool = False,
    per_sample: bool = False,
) -> Any:
    """Return `kernel(rows, parameters, axis_name)`, computed by each device on its part of the rows.

    `rows` and the result are trees of arrays that begin with the axes `leading`, [B] or [B, N]; every device has the
    whole of `parameters`, and all samples or points where the mesh does not divide their number. `axis_name` is the
    mesh axis that the points are split over, None where they are not. `implementation` is what the caller asks of the
    kernel; those that XLA cuts by itself are called as they are. A kernel `over_points` merges the devices' points by
    itself, and its result begins with [B]. Parameters `per_sample` begin with [B] as well.
    """
    if (own := _OWN_POINTS.value) is not None:
        return kernel(rows, parameters, own[0])
    mesh = jax.sharding.get_abstract_mesh()
    if implementation in CUT_BY_XLA or not _splits(mesh):
        return kernel(rows, parameters, None)
    axes = _split_axes(mesh, leading)
    axis_name = "points" if _over_several(mesh, axes) else None
    return untyped_shard_map(
        lambda rows, parameters: kernel(rows, parameters, axis_name),
        mesh,
        (P(*axes), P(axes[0]) if per_sample else P()),
        P(axes[0]) if over_points else P(*axes),
    )(rows, parameters)


def points_are_split(leading: Sequence[int]) -> bool:
    """Return whether the mesh that the program is traced under splits the points of arrays [B, N, ...]."""
    mesh = jax.sharding.get_abstract_mesh()
    return _splits(mesh) and _over_several(mesh, _split_axes(mesh, leading))


def splits_evenly(leading: Sequence[int]) -> bool:
    """Return whether the mesh that the program is traced under has several devices, with equal parts of [B, N, ...]."""
    mesh = jax.sharding.get_abstract_mesh()
    return _splits(mesh) and None not in _split_axes(mesh, leading)


def on_own_points(function: Callable[[Any, Any], Any], rows: Any, parameters: Any) -> Any:
    """Return `function(rows, parameters)`, computed by each device on its own samples and points.

    `rows` and the result are trees of arrays [B, N, ...] that `splits_evenly`; kernels inside are called by
    `on_each_device`, which tells those that need it over which axis to merge.
    """
    mesh = jax.sharding.get_abstract_mesh()

    def on_device(rows: Any, parameters: Any) -> Any:
        with _OWN_POINTS(("points" if mesh.shape["points"] > 1 else None,)):
            return function(rows, parameters)

    return untyped_shard_map(on_device, mesh, (P(*AXES), P()), P(*AXES))(rows, parameters)


def _splits(mesh: jax.sharding.AbstractMesh) -> bool:
    """Return whether the mesh has several devices, and leaves it to XLA and to us what each of them holds.

    Axes are not Auto inside a shard_map, and where the user places every array by explicit types.
    """
    automatic = all(kind == AxisType.Auto for kind in mesh.axis_types)
    return automatic and any(mesh.shape.get(name, 1) > 1 for name in AXES)


def _split_axes(mesh: jax.sharding.AbstractMesh, leading: Sequence[int]) -> tuple[str | None, ...]:
    """Return the mesh axis that each leading axis is split over, None for one that stays whole.

    A mesh axis of one device is named as well: an array that is not split over it would have its gradient summed there.
    """
    pairs = zip(AXES, leading, strict=False)
    return tuple(name if name in mesh.shape and count % mesh.shape[name] == 0 else None for name, count in pairs)


def _over_several(mesh: jax.sharding.AbstractMesh, axes: tuple[str | None, ...]) -> bool:
    """Return whether several devices share the points."""
    return "points" in axes and mesh.shape["points"] > 1

"""Devices as a (data, points) mesh: batches are split along `data`, point clouds along `points`.

One device is the 1 × 1 mesh, so there is no second code path: XLA cuts the array code and inserts the collectives, and
each device calls the kernels on its own part (`flare_jax.layers.sharding`).
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import numpy as np
from jax import Array
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Int

from data_pipeline.streaming.rows import Stored, is_stored
from experiments.errors import UserError

Result = TypeVar("Result")


@dataclass(frozen=True)
class Mesh:
    """A `jax.sharding.Mesh` with the placements that training needs."""

    devices: jax.sharding.Mesh

    @property
    def points(self) -> int:
        return self.devices.shape["points"]

    @property
    def data(self) -> int:
        return self.devices.shape["data"]

    @property
    def platform(self) -> str:
        """The kind of the devices: "cpu", "gpu" or "tpu"."""
        return self.devices.devices.flat[0].platform

    def whole_batch(self, samples: int) -> int:
        """Return the least batch size that holds so many samples and splits over the devices."""
        return -(-samples // self.data) * self.data

    def traced(self, function: Callable[..., Result]) -> Callable[..., Result]:
        """Return a function to be jitted, in which kernels run on each device's own samples and points.

        The mesh is set inside the trace, where it concerns nothing but this program.
        """

        @functools.wraps(function)
        def on_mesh(*arguments: Any, **options: Any) -> Result:
            with jax.sharding.use_abstract_mesh(self.devices.abstract_mesh):
                return function(*arguments, **options)

        return on_mesh

    def replicate(self, tree: Any) -> Any:
        """Put every array of `tree` on every device; each process holds the same values. Shapes get that placement."""

        def placed(value: Any) -> Any:
            if isinstance(value, jax.ShapeDtypeStruct):
                return jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=self.replicated)
            return place(value, self.replicated)

        return jax.tree.map(placed, tree)

    @property
    def replicated(self) -> NamedSharding:
        return NamedSharding(self.devices, P())

    def place_dataset(self, arrays: dict[str, np.ndarray]) -> dict[str, Array]:
        """Put a data set [S, N, ...] on the devices: samples on each, points split; arrays [S] are on each.

        Arrays that are streamed from disk are returned as they are.
        """
        if is_stored(arrays):
            return dict(arrays)
        return {name: place(value, self._split(value, None, "points")) for name, value in arrays.items()}

    def read_batch(self, arrays: Stored, cases: Int[np.ndarray, "A B"], length: int) -> dict[str, Array]:
        """Put batches [accumulation, B, N, ...] of samples from disk on the devices, padded to `length` points.

        They are split along B and N, and a process reads what its own devices hold.
        """

        def placed(value: Any) -> Array:
            shape = (*cases.shape, length, *value.shape[2:])

            def read(index: tuple[slice, ...]) -> np.ndarray:
                own = cases[index[:2]]
                first, stop, _ = index[2].indices(length)
                part = value.load(own.ravel(), length, first, stop)
                return part.reshape(*own.shape, *part.shape[1:])

            sharding = NamedSharding(self.devices, P(None, "data", "points"))
            return jax.make_array_from_callback(shape, sharding, read)

        return {name: placed(value) for name, value in arrays.items()}

    def constrain_batch(self, value: Array) -> Array:
        """Split [accumulation, B, N, ...] along B and N, [accumulation, B] along B."""
        return jax.lax.with_sharding_constraint(value, self._split(value, None, "data", "points"))

    def _split(self, value: Any, *axes: str | None) -> NamedSharding:
        """Return the sharding that splits the leading axes of an array, as many as it has of them."""
        return NamedSharding(self.devices, P(*axes[: value.ndim]))

    def constrain_replicated(self, tree: Any) -> Any:
        """Give every device the whole of each array, so that every process can read it."""
        return jax.lax.with_sharding_constraint(tree, self.replicated)


def place(value: Any, sharding: NamedSharding) -> Array:
    """Put a value that every process holds on devices of all of them (`device_put` takes those of one only)."""
    if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(place(jax.random.key_data(value), sharding))
    host = np.asarray(value)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def make_mesh(data: int, points: int) -> Mesh:
    """Return the mesh of data × points devices; −1 for one of them takes all remaining devices."""
    available = jax.device_count()
    if data == -1 and points > 0:
        data = max(1, available // points)
    if points == -1 and data > 0:
        points = max(1, available // data)
    if data < 1 or points < 1:
        raise UserError(
            f"mesh.data={data} and mesh.points={points} must be positive, or one of them -1 for all devices"
        )
    if data * points > available:
        raise UserError(
            f"mesh.data={data} times mesh.points={points} asks for {data * points} devices, but there are {available}; "
            "lower them"
        )
    chosen = jax.devices()[: data * points]
    return Mesh(jax.make_mesh((data, points), ("data", "points"), axis_types=(AxisType.Auto,) * 2, devices=chosen))

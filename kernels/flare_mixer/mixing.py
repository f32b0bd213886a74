"""Forward and backward of the mixer in terms of what each implementation provides, joined by `custom_vjp`."""

import abc
import functools
from typing import Any

import jax
import jax.numpy as jnp

from kernels._operation import Backends
from kernels._statistics import Statistics, merge_devices, sum_latent_gradient
from kernels.flare_mixer.operands import Operands

# Maxima and masses `[B, H, N]` of the scatter's softmaxes, for backends that keep them.
PointStatistics = tuple[jax.Array, jax.Array]


class Backend(abc.ABC):
    """What an implementation provides, for the points of one device."""

    @abc.abstractmethod
    def gather(self, operands: Operands, *, scale: float) -> Statistics:
        """Return the latents and the statistics of their softmax over the points."""

    @abc.abstractmethod
    def exponential(self, x: jax.Array) -> jax.Array:
        """Return the function whose inverse its maxima are counted in."""

    @abc.abstractmethod
    def scatter(self, operands: Operands, statistics: Statistics, *, scale: float) -> tuple[jax.Array, PointStatistics]:
        """Return the mixed points, in the dtype of v, and the statistics of their softmax over the latents.

        `statistics` are those of the gather, of the points of all devices.
        """

    @abc.abstractmethod
    def latent_gradient(
        self, operands: Operands, dy: jax.Array, statistics: PointStatistics, *, scale: float
    ) -> jax.Array:
        """Return the gradient of the latents through the mixed points, float32."""

    @abc.abstractmethod
    def operand_gradients(
        self,
        operands: Operands,
        statistics: Statistics,
        point_statistics: PointStatistics,
        y: jax.Array,
        dy: jax.Array,
        dz: jax.Array,
        *,
        scale: float,
    ) -> Operands:
        """Return the gradients of all operands from the complete gradient of the latents."""

    def forward(self, operands: Operands, *, scale: float) -> tuple[jax.Array, Statistics, PointStatistics]:
        """Return what gather and scatter do where all points are on one device."""
        statistics = self.gather(operands, scale=scale)
        y, point_statistics = self.scatter(operands, statistics, scale=scale)
        return y, statistics, point_statistics

    def backward(
        self,
        operands: Operands,
        statistics: Statistics,
        point_statistics: PointStatistics,
        y: jax.Array,
        dy: jax.Array,
        dz_direct: jax.Array,
        *,
        scale: float,
    ) -> Operands:
        """Return the gradients of all operands where all points are on one device.

        `dz_direct` is the float32 gradient of the latents that are returned.
        """
        dz = self.latent_gradient(operands, dy, point_statistics, scale=scale) + dz_direct
        return self.operand_gradients(operands, statistics, point_statistics, y, dy, dz, scale=scale)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def mix(operands: Operands, backends: Backends, scale: float, axis_name: str | None) -> tuple[jax.Array, jax.Array]:
    """Return the mixed points and the float32 latents; `axis_name` is the mesh axis over which points are sharded."""
    return _forward(operands, backends, scale, axis_name)[0]


def _forward(operands: Operands, backends: Backends, scale: float, axis_name: str | None) -> tuple[Any, Any]:
    if axis_name is None:
        y, statistics, point_statistics = backends.run(Backend.forward, operands, scale=scale)
        return (y, statistics.latents), (operands, statistics, point_statistics, y)
    local = backends.run(Backend.gather, operands, scale=scale)
    statistics = merge_devices(local, axis_name, functools.partial(backends.run, Backend.exponential))
    y, point_statistics = backends.run(Backend.scatter, operands, statistics, scale=scale)
    return (y, statistics.latents), (operands, statistics, point_statistics, y)


def _backward(
    backends: Backends, scale: float, axis_name: str | None, residuals: tuple, cotangents: tuple
) -> tuple[Operands]:
    operands, statistics, point_statistics, y = residuals
    dy, dz_direct = cotangents
    dz_direct = dz_direct.astype(jnp.float32)
    if axis_name is None:
        kept = statistics, point_statistics, y
        return (backends.run(Backend.backward, operands, *kept, dy, dz_direct, scale=scale),)
    dz = backends.run(Backend.latent_gradient, operands, dy, point_statistics, scale=scale)
    dz = sum_latent_gradient(dz, dz_direct, axis_name)
    found = backends.run(Backend.operand_gradients, operands, statistics, point_statistics, y, dy, dz, scale=scale)
    return (found,)


mix.defvjp(_forward, _backward)

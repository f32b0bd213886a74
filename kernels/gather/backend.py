"""Forward and backward of the gather in terms of what each implementation provides, joined by `custom_vjp`."""

import abc
import functools
from typing import Any

import jax
import jax.numpy as jnp

from kernels._operation import Backends
from kernels._sharding import complete
from kernels._statistics import Statistics, merge_devices
from kernels.gather.operands import Operands


class Backend(abc.ABC):
    """What an implementation provides, for the points of one device."""

    @abc.abstractmethod
    def gather(self, operands: Operands, *, scale: float) -> Statistics:
        """Return the latents and the statistics of their softmax over the points."""

    @abc.abstractmethod
    def exponential(self, x: jax.Array) -> jax.Array:
        """Return the function whose inverse its maxima are counted in."""

    @abc.abstractmethod
    def gradients(self, operands: Operands, statistics: Statistics, dz: jax.Array, *, scale: float) -> Operands:
        """Return the gradients of all operands from the complete gradient of the latents."""


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def attend(operands: Operands, backends: Backends, scale: float, axis_name: str | None) -> jax.Array:
    """Return the float32 latents; `axis_name` is the mesh axis over which points are sharded."""
    return _forward(operands, backends, scale, axis_name)[0]


def _forward(operands: Operands, backends: Backends, scale: float, axis_name: str | None) -> tuple[jax.Array, Any]:
    local = backends.run(Backend.gather, operands, scale=scale)
    statistics = merge_devices(local, axis_name, functools.partial(backends.run, Backend.exponential))
    return statistics.latents, (operands, statistics)


def _backward(
    backends: Backends, scale: float, axis_name: str | None, residuals: tuple, dz: jax.Array
) -> tuple[Operands]:
    operands, statistics = residuals
    dz = complete(dz.astype(jnp.float32), operands.k, axis_name)
    return (backends.run(Backend.gradients, operands, statistics, dz, scale=scale),)


attend.defvjp(_forward, _backward)

"""Forward and backward of the mixer on one device, from those of the gather and of the FLARE mixer.

The kernels for few points have what stands between the calls inside of them (`compact.py`).
"""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from kernels._operation import Backends
from kernels._target import Target
from kernels.flare_mixer import api as flare_mixer
from kernels.flare_mixer import mixing
from kernels.flare_mixer import pallas as flare_mixer_pallas
from kernels.flarepp_mixer import compact
from kernels.flarepp_mixer.operands import Latents, Mixed, Operands
from kernels.gather import api as gather
from kernels.gather import backend as gathering
from kernels.gather import pallas as gather_pallas


@dataclass(frozen=True)
class Backend:
    """The mixer of an implementation of the gather and one of the FLARE mixer."""

    synthesis: gathering.Backend
    routing: mixing.Backend

    def _kernels(self, operands: Operands) -> compact.Kernels | None:
        """Return the kernels for few points, None where they do not serve."""
        if not isinstance(self.synthesis, gather_pallas.PallasBackend):
            return None
        if not isinstance(self.routing, flare_mixer_pallas.PallasBackend):
            return None
        kernels = compact.Kernels(self.synthesis, self.routing)
        return kernels if kernels.serve(operands) else None

    def forward(self, operands: Operands, *, scale: float) -> Mixed:
        """Return the mixed points and what the backward pass needs."""
        if kernels := self._kernels(operands):
            return kernels.forward(operands, scale)
        synthesis = self.synthesis.gather(operands.synthesis, scale=scale)
        q = operands.queries(synthesis.latents)
        y, *statistics = self.routing.forward(operands.routing(q), scale=scale)
        return Mixed(y, q, synthesis, *statistics)

    def backward(self, operands: Operands, mixed: Mixed, dy: jax.Array, direct: Latents, *, scale: float) -> Operands:
        """Return the gradients of all operands; `direct` are those of the latents that are returned."""
        if kernels := self._kernels(operands):
            return kernels.backward(operands, mixed, dy, direct, scale)
        kept = mixed.routing, mixed.points, mixed.y
        routing = self.routing.backward(operands.routing(mixed.q), *kept, dy, direct.z, scale=scale)
        dq = routing.q.astype(jnp.float32) + direct.q
        dq_dynamic = operands.gate.astype(jnp.float32)[:, None, None] * dq + direct.q_dynamic
        synthesis = self.synthesis.gradients(operands.synthesis, mixed.synthesis, dq_dynamic, scale=scale)
        return Operands(
            synthesis.q,
            gather_pallas.like_latents(dq, operands.q_fixed),
            jnp.sum(dq * mixed.synthesis.latents, axis=(0, 2, 3)).astype(operands.gate.dtype),
            synthesis.k,
            synthesis.v,
            routing.k,
            routing.v,
        )


@dataclass(frozen=True)
class SelectedBackends(Backends):
    """The backends of what was selected for the FLARE mixer, and for the gather before it."""

    synthesis: gather.SelectedBackends

    def on(self, target: Target) -> Backend:
        return Backend(self.synthesis.on(target), flare_mixer.SelectedBackends(self.selection).on(target))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def mix(operands: Operands, backends: SelectedBackends, scale: float) -> tuple[jax.Array, Latents]:
    """Return the mixed points and what was made on the way."""
    return _forward(operands, backends, scale)[0]


def _forward(operands: Operands, backends: SelectedBackends, scale: float) -> tuple[Any, Any]:
    mixed = backends.run(Backend.forward, operands, scale=scale)
    latents = Latents(mixed.synthesis.latents, mixed.q, mixed.routing.latents)
    return (mixed.y, latents), (operands, mixed)


def _backward(backends: SelectedBackends, scale: float, residuals: tuple, cotangents: tuple) -> tuple[Operands]:
    dy, direct = cotangents
    return (backends.run(Backend.backward, *residuals, dy, direct, scale=scale),)


mix.defvjp(_forward, _backward)

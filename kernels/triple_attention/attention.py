"""Forward and backward of triple attention in terms of three contractions, joined by `custom_vjp` (README.md)."""

import functools

import jax

from kernels._operation import Backends
from kernels._statistics import sum_latent_gradient
from kernels.triple_attention.contractions import Contractions, Operands


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def attend(operands: Operands, backends: Backends, scale: float, axis_name: str | None) -> tuple[jax.Array, jax.Array]:
    """Return the output `[B, N, H, C]` and the float32 state `[B, H, D, C, D]`, `scale` times a sum over points.

    `axis_name` is the mesh axis over which the points are sharded.
    """
    return _forward(operands, backends, scale, axis_name)[0]


def _forward(
    operands: Operands, backends: Backends, scale: float, axis_name: str | None
) -> tuple[tuple[jax.Array, jax.Array], tuple[Operands, jax.Array]]:
    q1, q2, k1, k2, v = operands
    state = backends.run(Contractions.accumulate, k1, k2, v)
    if axis_name is not None:
        state = jax.lax.psum(state, axis_name)
    state = scale * state
    return (backends.run(Contractions.read, q1, q2, state), state), (operands, state)


def _backward(
    backends: Backends,
    scale: float,
    axis_name: str | None,
    residuals: tuple[Operands, jax.Array],
    cotangents: tuple[jax.Array, jax.Array],
) -> tuple[Operands]:
    (q1, q2, k1, k2, v), state = residuals
    dy, d_state = cotangents
    # The gradient of the sum over points, not of its mean: `scale` goes in here once, instead of into dk1, dk2 and dv.
    d_sum = scale * sum_latent_gradient(backends.run(Contractions.accumulate, q1, q2, dy), d_state, axis_name)
    dq1, dq2 = backends.run(Contractions.pair, dy, q1, q2, state)
    dk1, dk2 = backends.run(Contractions.pair, v, k1, k2, d_sum)
    return (Operands(dq1, dq2, dk1, dk2, backends.run(Contractions.read, k1, k2, d_sum)),)


attend.defvjp(_forward, _backward)

"""Forward and backward of triple attention in terms of three contractions, joined by `custom_vjp` (README.md)."""

import functools

import jax

from kernels._sharding import varying_axes
from kernels.triple_attention.contractions import Contractions, Operands


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def attend(
    operands: Operands, contractions: Contractions, scale: float, axis_name: str | None
) -> tuple[jax.Array, jax.Array]:
    """Return the output `[B, N, H, C]` and the float32 state `[B, H, D, C, D]`, `scale` times a sum over points.

    `axis_name` is the mesh axis over which the points are sharded.
    """
    return _forward(operands, contractions, scale, axis_name)[0]


def _forward(
    operands: Operands, contractions: Contractions, scale: float, axis_name: str | None
) -> tuple[tuple[jax.Array, jax.Array], tuple[Operands, jax.Array]]:
    q1, q2, k1, k2, v = operands
    state = contractions.accumulate(k1, k2, v)
    if axis_name is not None:
        state = jax.lax.psum(state, axis_name)
    state = scale * state
    return (contractions.read(q1, q2, state), state), (operands, state)


def _backward(
    contractions: Contractions,
    scale: float,
    axis_name: str | None,
    residuals: tuple[Operands, jax.Array],
    cotangents: tuple[jax.Array, jax.Array],
) -> tuple[Operands]:
    (q1, q2, k1, k2, v), state = residuals
    dy, d_state = cotangents
    # The gradient of the sum over points, not of its mean: `scale` goes in here once, instead of into dk1, dk2 and dv.
    d_sum = scale * _sum_state_gradient(contractions.accumulate(q1, q2, dy), d_state, axis_name)
    dq1, dq2 = contractions.pair(dy, q1, q2, state)
    dk1, dk2 = contractions.pair(v, k1, k2, d_sum)
    return (Operands(dq1, dq2, dk1, dk2, contractions.read(k1, k2, d_sum)),)


def _sum_state_gradient(local: jax.Array, direct: jax.Array, axis_name: str | None) -> jax.Array:
    """Add the state's gradient through the outputs of all devices to the one through the returned state itself.

    With typed axes (shard_map's `check_vma`) the cotangent `direct` of the replicated state is complete on every
    device; without them each device holds its share, which has to be summed as well.
    """
    if axis_name is None:
        return local + direct
    if axis_name in varying_axes(local):
        return jax.lax.psum(local, axis_name) + direct
    return jax.lax.psum(local + direct, axis_name)


attend.defvjp(_forward, _backward)

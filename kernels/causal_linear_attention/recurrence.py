"""The scheme that every fast implementation shares: states of all parts of the sequence first, then all outputs.

The sequence is cut into splits that run in parallel. Forward and backward need two operations only, sums of outer
products and causal mixing, so a backend is these two functions (README.md, "Scheme").
"""

import abc
import functools

import jax
import jax.numpy as jnp

from kernels import _operation
from kernels._target import Target, on_target


class Backend(abc.ABC):
    """The two operations on `[B, N, H, D]` arrays."""

    @abc.abstractmethod
    def outer_sums(self, a: jax.Array, b: jax.Array) -> jax.Array:
        """Return the float32 sums `[B, H, splits, D, C]` of `a_n b_nᵀ` over the points of each split."""

    @abc.abstractmethod
    def mix(
        self, q: jax.Array, k: jax.Array, v: jax.Array, starts: jax.Array, scale: float, reverse: bool
    ) -> jax.Array:
        """Return `y_t = Sᵀ q_t + scale Σ (q_t·k_τ) v_τ` over the τ ≤ t (τ ≥ t if `reverse`) of the split of t.

        S is the split's entry `[D, C]` of `starts` `[B, H, splits, D, C]`; y has the dtype of v.
        """

    def pair(
        self, q: jax.Array, k: jax.Array, v: jax.Array, dy: jax.Array, ends: jax.Array, scale: float
    ) -> tuple[jax.Array, jax.Array]:
        """Return the gradients of k and v: two walks backwards in time, of one state, which `ends` has scaled."""
        dk = self.mix(v, dy, q, jnp.swapaxes(ends, 3, 4), scale, True)
        return dk, self.mix(k, q, dy, ends, scale, True)


class Backends(_operation.Backends):
    """The backends that may run."""

    @abc.abstractmethod
    def splits(self, k: jax.Array) -> set[int]:
        """Return into how many splits the points may be cut, whichever backend and launch runs."""


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def attend(
    backends: Backends, scale: float, q: jax.Array, k: jax.Array, v: jax.Array, state: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return the outputs, in the dtype of `v`, and the float32 final state `[B, H, D, C]`."""
    return _forward(backends, scale, q, k, v, state)[0]


def _forward(
    backends: Backends, scale: float, q: jax.Array, k: jax.Array, v: jax.Array, state: jax.Array
) -> tuple[tuple[jax.Array, jax.Array], tuple]:
    y, final, starts = on_target(_mix_forward, q, k, v, state, static=(backends, scale))
    return (y, final), (q, k, v, starts)


def _mix_forward(
    backends: Backends, scale: float, target: Target, q: jax.Array, k: jax.Array, v: jax.Array, state: jax.Array
) -> tuple[jax.Array, jax.Array, dict[int, jax.Array]]:
    """Return outputs, final state and, for each number of splits, the states where these start: zeros if not used."""
    backend = backends.on(target)
    sums = backend.outer_sums(k, v)
    before = _sums_before(sums)
    starts = state[:, :, None] + scale * before
    final = starts[:, :, -1] + scale * sums[:, :, -1]
    kept = {
        splits: starts
        if splits == starts.shape[2]
        else jnp.zeros((*starts.shape[:2], splits, *starts.shape[3:]), starts.dtype)
        for splits in sorted(backends.splits(k))
    }
    return backend.mix(q, k, v, starts, scale, False), final, kept


def _backward(
    backends: Backends, scale: float, residuals: tuple, cotangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, ...]:
    return on_target(_mix_backward, residuals, cotangents, static=(backends, scale))


def _mix_backward(
    backends: Backends, scale: float, target: Target, residuals: tuple, cotangents: tuple
) -> tuple[jax.Array, ...]:
    backend = backends.on(target)
    q, k, v, kept = residuals
    dy, dfinal = cotangents
    sums = backend.outer_sums(q, dy)
    starts = kept[sums.shape[2]]
    after = jnp.flip(_sums_before(jnp.flip(sums, axis=2)), axis=2)
    ends = dfinal[:, :, None] + after
    dstate = ends[:, :, 0] + sums[:, :, 0]
    ends = scale * ends
    dq = backend.mix(dy, v, k, jnp.swapaxes(starts, 3, 4), scale, False)
    return dq, *backend.pair(q, k, v, dy, ends, scale), dstate


def _sums_before(sums: jax.Array) -> jax.Array:
    """Return the sum over all earlier splits for every split."""
    splits = sums.shape[2]
    return jnp.pad(jnp.cumsum(sums, axis=2), ((0, 0), (0, 0), (1, 0), (0, 0), (0, 0)))[:, :, :splits]


attend.defvjp(_forward, _backward)

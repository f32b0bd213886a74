"""Linear attention with decay, forward and backward, whichever implementation runs (README.md, "Decay in kernels")."""

import abc
import functools

import jax
import jax.numpy as jnp

from kernels import _operation
from kernels._target import Target, on_target

# A log decay below this one, in all of a head, empties its state: what is before it takes no part at all.
FORGETS_ALL = -1e4
# The exponential of it is exactly 0 in float32; of sums of lower ones, differences would be less exact.
LOWEST_LOG_DECAY = -110.0
# States of so many splits are joined as one sum over all earlier ones, in a few kernels; more of them are scanned.
_MOST_SUMMED = 72


class Backend(abc.ABC):
    """One implementation, of q, k `[B, N, H, D]`, v, log decays `[B, N, H]` or `[B, N, H, D]` and a state."""

    @abc.abstractmethod
    def forward(
        self, q: jax.Array, k: jax.Array, v: jax.Array, decay: jax.Array, state: jax.Array, scale: float
    ) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        """Return outputs in the dtype of v, the final state, and the states at the starts of splits, if it has any."""

    @abc.abstractmethod
    def backward(
        self,
        arrays: tuple[jax.Array, ...],
        kept: dict[int, jax.Array],
        dy: jax.Array,
        dfinal: jax.Array,
        scale: float,
    ) -> tuple[jax.Array, ...]:
        """Return the gradients of `arrays`, those of the call, for the cotangents of outputs and final state.

        `kept` are the states at the starts of the splits, by how many there are.
        """


class Backends(_operation.Backends):
    """The backends that may run."""

    @abc.abstractmethod
    def splits(self, k: jax.Array) -> set[int]:
        """Return into how many splits the points may be cut, whichever launch runs."""


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def attend(
    backends: Backends,
    scale: float,
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    decay: jax.Array,
    state: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Return the outputs, in the dtype of `v`, and the float32 final state `[B, H, D, C]`."""
    return _forward(backends, scale, q, k, v, decay, state)[0]


def _forward(backends: Backends, scale: float, *arrays: jax.Array) -> tuple[tuple[jax.Array, jax.Array], tuple]:
    y, final, kept = on_target(_run_forward, *arrays, static=(backends, scale))
    return (y, final), (arrays, kept)


def _run_forward(
    backends: Backends, scale: float, target: Target, *arrays: jax.Array
) -> tuple[jax.Array, jax.Array, dict[int, jax.Array]]:
    """Return outputs, final state and, for each number of splits, the states where these start: zeros if not used."""
    y, final, starts = backends.on(target).forward(*arrays, scale)
    kept = {}
    for splits in sorted(backends.splits(arrays[1])):
        used = starts is not None and starts.shape[2] == splits
        kept[splits] = starts if used else jnp.zeros((*final.shape[:2], splits, *final.shape[2:]), final.dtype)
    return y, final, kept


def _backward(
    backends: Backends, scale: float, residuals: tuple, cotangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, ...]:
    return on_target(_run_backward, *residuals, *cotangents, static=(backends, scale))


def _run_backward(
    backends: Backends,
    scale: float,
    target: Target,
    arrays: tuple[jax.Array, ...],
    kept: dict[int, jax.Array],
    dy: jax.Array,
    dfinal: jax.Array,
) -> tuple[jax.Array, ...]:
    return backends.on(target).backward(arrays, kept, dy, dfinal, scale)


attend.defvjp(_forward, _backward)


def separate_resets(decay: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return log decays that are not lower than any matters, 0 where the state of a head is emptied, and where it is.

    That is `[B, N, H]`, of `decay` `[B, N, H]` or `[B, N, H, D]`.
    """
    resets = jnp.all(decay < FORGETS_ALL, axis=-1) if decay.ndim == 4 else decay < FORGETS_ALL
    emptied = resets[..., None] if decay.ndim == 4 else resets
    return jnp.maximum(jnp.where(emptied, 0.0, decay), LOWEST_LOG_DECAY), resets


def states_between(initial: jax.Array, added: jax.Array, totals: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the state `[B, H, splits, D, C]` at the start of each split, and the one after the last.

    A split multiplies the state by 2 to the power of its `totals` `[B, H, splits, D or 1]` and adds its own.
    """
    heads, totals = added.shape[:2], totals.reshape(-1, *totals.shape[2:])
    joined = jnp.concatenate([initial[:, :, None], added], axis=2).reshape(-1, added.shape[2] + 1, *added.shape[3:])
    states = _summed(joined, totals) if joined.shape[1] <= _MOST_SUMMED else _scanned(joined, totals)
    states = states.reshape(*heads, *states.shape[1:])
    return states[:, :, :-1], states[:, :, -1]


def _summed(joined: jax.Array, totals: jax.Array) -> jax.Array:
    """Return each of the states `[heads, splits + 1, D, C]` with what is left of all before it."""
    order = jnp.arange(joined.shape[1])
    after, before, split = order[:, None, None], order[None, :, None], order[None, None, 1:]
    # Sums of the splits between, not differences of sums, which would not be exact after much is forgotten.
    between = ((before < split) & (split <= after))[..., None]
    left = jnp.exp2(jnp.sum(jnp.where(between, totals[:, None, None], 0.0), axis=3))
    left = jnp.where((order[:, None] >= order[None, :])[..., None], left, 0.0)
    return jnp.sum(left[..., None] * joined[:, None], axis=2)


def _scanned(joined: jax.Array, totals: jax.Array) -> jax.Array:
    def combine(first: tuple[jax.Array, jax.Array], second: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        return first[0] + second[0], jnp.exp2(second[0]) * first[1] + second[1]

    totals = jnp.pad(totals, ((0, 0), (1, 0), (0, 0)))[..., None]
    return jax.lax.associative_scan(combine, (totals, joined), axis=1)[1]

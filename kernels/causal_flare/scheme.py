"""The scheme that both fast implementations share: tiles of latents in turn, splits of the sequence side by side.

A backend supplies five operations on one tile of latents and all splits; the states between splits are merged here
(README.md, "Scheme").
"""

import abc
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kernels import _operation
from kernels._target import Target, on_target
from kernels.causal_flare.operands import (
    FORGETS_ALL,
    Operands,
    State,
    empty_state,
    exact_decay,
)
from kernels.causal_flare.splits import merge_futures, prefix_states, state_gradient
from kernels.causal_flare.tile import Future, Gradients, Latents


class ReadStatistics(NamedTuple):
    """Maximum and mass `[B, H, N]` of the softmax over all latents with which each token reads."""

    maximum: jax.Array
    mass: jax.Array


class Reading(NamedTuple):
    """What reads one tile of latents: the tile `[H, m, D]`, the tokens, and how their read weights are normalised."""

    latents: Latents
    operands: Operands
    statistics: ReadStatistics


class Backend(abc.ABC):
    """The five operations. States have the axes `[B, H, splits, m]`."""

    @abc.abstractmethod
    def tile_latents(self, latents: int) -> int:
        """Return how many of `latents` latents form a tile; the last tile is padded."""

    @abc.abstractmethod
    def split_tokens(self, latents: Latents, operands: Operands) -> int:
        """Return how many tokens each split has, but for the last."""

    @abc.abstractmethod
    def read_statistics(self, latents: Latents, operands: Operands, scale: float) -> ReadStatistics:
        """Return the statistics of a softmax over the latents of the tile alone.

        Its logits must be bitwise those of `read`, or large ones would give weights that do not add up to 1.
        """

    @abc.abstractmethod
    def summarize(self, latents: Latents, operands: Operands, scale: float) -> State:
        """Return the state after each split on its own, with forgetting relative to the last token of the split."""

    @abc.abstractmethod
    def read(self, reading: Reading, starts: State, scale: float) -> jax.Array:
        """Return what the tile contributes to the outputs, `[B, N, H, C]`, from the states at the starts.

        It is float32, or in the dtype of v where it is the only tile.
        """

    @abc.abstractmethod
    def slopes(self, reading: Reading, dy: jax.Array, starts: State, scale: float) -> tuple[Any, Future]:
        """Return whatever `gradients` needs from a walk forwards, and what each split says about its start."""

    @abc.abstractmethod
    def gradients(
        self, reading: Reading, dy: jax.Array, mean: jax.Array, walked: Any, ends: Future, scale: float
    ) -> Gradients:
        """Return gradients of the tokens, in the dtype of `read`, and of the latents per split `[B, H, splits, m, D]`.

        `mean` is dy·y `[B, H, N]`, `ends` what later splits say about the state that leaves each split; `dlogits` comes
        back `[B, H, N]`.
        """


class Backends(_operation.Backends):
    """The backends that may run."""

    @abc.abstractmethod
    def on(self, target: Target) -> Backend:
        """Return the backend for the target."""


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def mix(backends: Backends, scale: float, operands: Operands, state: State) -> tuple[jax.Array, State]:
    """Return the outputs, in the dtype of `v`, and the state after the last token."""
    return _forward(backends, scale, operands, state)[0]


def _forward(backends: Backends, scale: float, operands: Operands, state: State) -> tuple[Any, Any]:
    y, final, statistics = on_target(_mix_forward, operands, state, static=(backends, scale))
    return (y, final), (operands, state, statistics, y)


def _backward(backends: Backends, scale: float, residuals: tuple, cotangents: tuple) -> tuple[Operands, State]:
    return on_target(_mix_backward, residuals, cotangents, static=(backends, scale))


mix.defvjp(_forward, _backward)


def _mix_forward(backends: Backends, scale: float, target: Target, operands: Operands, state: State) -> tuple:
    backend = backends.on(target)
    tiles, states = _tile(backend, operands, state)
    statistics = _read_statistics(backend, tiles, operands, scale)

    def body(y: jax.Array, tile: tuple[Latents, State]) -> tuple[jax.Array, State]:
        latents, initial = tile
        fading = _split_decay(backend, latents, operands)
        starts, final = prefix_states(initial, backend.summarize(latents, operands, scale), fading)
        return y + backend.read(Reading(latents, operands, statistics), starts, scale), final

    v = operands.v
    y, finals = _fold(body, jnp.zeros(v.shape, jnp.float32), (tiles, states))
    y = y.astype(v.dtype)
    final = jax.tree.map(lambda x: _untile(x, operands.q.shape[1]), finals)
    return y, final, statistics


def _mix_backward(
    backends: Backends, scale: float, target: Target, residuals: tuple, cotangents: tuple
) -> tuple[Operands, State]:
    backend = backends.on(target)
    operands, state, statistics, y = residuals
    dy, dfinal = cotangents
    tiles, states = _tile(backend, operands, state)
    cotangent_tiles = jax.tree.map(lambda x: _tile_state(x, tiles), dfinal)
    mean = jnp.einsum("bnhc,bnhc->bhn", dy.astype(jnp.float32), y.astype(jnp.float32), precision="highest")

    def body(tokens: tuple, tile: tuple[Latents, State, State]) -> tuple[tuple, tuple]:
        latents, initial, dfinal = tile
        fading = _split_decay(backend, latents, operands)
        starts, final = prefix_states(initial, backend.summarize(latents, operands, scale), fading)
        reading = Reading(latents, operands, statistics)
        walked, futures = backend.slopes(reading, dy, starts, scale)
        ends, future = merge_futures(starts, final, futures, dfinal, fading)
        found = backend.gradients(reading, dy, mean, walked, ends, scale)
        tokens = jax.tree.map(jnp.add, tokens, (found.dk, found.dv, found.dk_decode, found.dlogits))
        latent_gradients = jax.tree.map(lambda x: jnp.sum(x, axis=(0, 2)), (found.dq, found.dq_decode))
        return tokens, (latent_gradients, state_gradient(initial, future))

    arrays = (operands.k, operands.v, operands.k_decode, operands.token_decay)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), arrays)
    (dk, dv, dk_decode, dlogits), ((dq, dq_decode), dstate) = _fold(body, zeros, (tiles, states, cotangent_tiles))
    latents = operands.q.shape[1]
    dq, dq_decode = jax.tree.map(
        lambda x: jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1, x.shape[3])[:, :latents], (dq, dq_decode)
    )
    dtype = operands.v.dtype
    found = jax.tree.map(lambda x: x.astype(dtype), Operands(dq, dk, dv, dq_decode, dk_decode, None))
    dstate = jax.tree.map(lambda x: _untile(x, latents), dstate)
    return found._replace(log_decay=_decay_gradient(operands, dlogits, dstate)), dstate


def _decay_gradient(operands: Operands, dlogits: jax.Array | None, dstate: State) -> jax.Array | None:
    """Return the gradient of the log decays `[B, N, H]`, which move the logits of all earlier tokens together."""
    if dlogits is None:
        return None
    earlier = jnp.cumsum(dlogits, axis=2) - dlogits + jnp.sum(dstate.maximum, axis=2)[..., None]
    decays = operands.token_decay >= FORGETS_ALL
    if operands.mask is not None:
        decays = decays & operands.mask[:, None, :]
    return jnp.swapaxes(jnp.where(decays, earlier, 0.0), 1, 2)


def _split_decay(backend: Backend, latents: Latents, operands: Operands) -> jax.Array | None:
    """Return the sum of the log decays `[B, H, splits]` of each split, None without forgetting."""
    decay = operands.token_decay
    if decay is None:
        return None
    size = backend.split_tokens(latents, operands)
    decay = jnp.pad(exact_decay(decay), ((0, 0), (0, 0), (0, -decay.shape[2] % size)))
    return jnp.sum(decay.reshape(*decay.shape[:2], -1, size), axis=3)


def _tile(backend: Backend, operands: Operands, state: State) -> tuple[Latents, State]:
    """Cut latents and state into tiles along a new first axis; the last tile is padded."""
    heads, latents, _ = operands.q.shape
    size = backend.tile_latents(latents)
    padding = -latents % size

    def cut(x: jax.Array) -> jax.Array:
        x = jnp.pad(x, ((0, 0), (0, padding), (0, 0)))
        return jnp.moveaxis(x.reshape(heads, -1, size, x.shape[-1]), 1, 0)

    bias = jnp.where(jnp.arange(latents + padding) < latents, jnp.float32(0.0), -jnp.inf).reshape(-1, size)
    q_decode = cut(operands.q_decode) if operands.separate else None
    tiles = Latents(cut(operands.q), q_decode, bias)
    return tiles, jax.tree.map(lambda x: _tile_state(x, tiles), state)


def _tile_state(x: jax.Array, tiles: Latents) -> jax.Array:
    """Cut `[B, H, M, ...]` into `[tiles, B, H, m, ...]`; the padding is never read, so that zeros will do."""
    count, size = tiles.bias.shape
    x = jnp.pad(x, ((0, 0), (0, 0), (0, count * size - x.shape[2]), *((0, 0),) * (x.ndim - 3)))
    return jnp.moveaxis(x.reshape(*x.shape[:2], count, size, *x.shape[3:]), 2, 0)


def _untile(x: jax.Array, latents: int) -> jax.Array:
    x = jnp.moveaxis(x, 0, 2)
    return x.reshape(*x.shape[:2], -1, *x.shape[4:])[:, :, :latents]


def _fold(body: Callable[[Any, Any], tuple[Any, Any]], carry: Any, tiles: Any) -> tuple[Any, Any]:
    """Scan over the tiles of latents; a single one, the usual case, needs no loop."""
    if jax.tree.leaves(tiles)[0].shape[0] > 1:
        return jax.lax.scan(body, carry, tiles)
    carry, outputs = body(carry, jax.tree.map(lambda x: x[0], tiles))
    return carry, jax.tree.map(lambda x: x[None], outputs)


def _read_statistics(backend: Backend, tiles: Latents, operands: Operands, scale: float) -> ReadStatistics:
    """Merge the softmaxes over the latents tile by tile; a masked token gets maximum +inf and so no weight at all."""

    def body(merged: ReadStatistics, latents: Latents) -> tuple[ReadStatistics, None]:
        tile = backend.read_statistics(latents, operands, scale)
        maximum = jnp.maximum(merged.maximum, tile.maximum)
        masses = (x.mass * jnp.exp(x.maximum - maximum) for x in (merged, tile))
        return ReadStatistics(maximum, sum(masses)), None

    batch, points, heads, _ = operands.k.shape
    start = empty_state((batch, heads, points), 1)
    start = ReadStatistics(start.maximum, start.mass)
    statistics, _ = _fold(body, start, tiles)
    if operands.mask is None:
        return statistics
    return statistics._replace(maximum=jnp.where(operands.mask[:, None, :], statistics.maximum, jnp.inf))

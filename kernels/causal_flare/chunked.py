"""The causal mixer in XLA: a scan over short tiles of tokens with all splits of the sequence side by side."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from kernels._target import Target
from kernels._tile_products import Products
from kernels.causal_flare import tile
from kernels.causal_flare.operands import Operands, State, empty_state
from kernels.causal_flare.scheme import Backend, Reading, ReadStatistics
from kernels.causal_flare.tile import Dot, Future, Gradients, Latents, Tokens


def _over_programs(function: Callable[..., Any]) -> Callable[..., Any]:
    """Map a function of (latents, tokens, states ...) of one split over batch, heads and splits.

    Batch and heads become one axis: jaxlib 0.10.2 and 0.11.0 crash on the CPU where a sum has seven axes, which would
    be reached under `vmap` (https://github.com/jax-ml/jax/issues/39257).
    """

    def mapped(latents: Latents, *arrays: Any) -> Any:
        batch, heads = jax.tree.leaves(arrays)[0].shape[:2]

        def each(q: jax.Array | None) -> jax.Array | None:
            return q if q is None else jnp.broadcast_to(q, (batch, *q.shape)).reshape(batch * heads, *q.shape[1:])

        rows = Latents(0, None if latents.q_decode is None else 0, None)
        others = (0,) * len(arrays)
        over_splits = jax.vmap(function, in_axes=(None, *others))
        results = jax.vmap(over_splits, in_axes=(rows, *others))(
            latents._replace(q=each(latents.q), q_decode=each(latents.q_decode)),
            *jax.tree.map(lambda x: x.reshape(batch * heads, *x.shape[2:]), arrays),
        )
        return jax.tree.map(lambda x: x.reshape(batch, heads, *x.shape[1:]), results)

    return mapped


@dataclass(frozen=True)
class _Cut:
    """Cuts `points` tokens into splits of `steps` tiles of `size` tokens each; the last ones are padded."""

    points: int
    splits: int
    steps: int
    size: int

    @property
    def _padding(self) -> int:
        return self.splits * self.steps * self.size - self.points

    def tokens(self, x: jax.Array | None) -> jax.Array | None:
        """Return `[B, N, H, D]` as `[steps, B, H, splits, size, D]`."""
        if x is None:
            return None
        x = jnp.pad(x, ((0, 0), (0, self._padding), (0, 0), (0, 0)))
        x = x.reshape(x.shape[0], self.splits, self.steps, self.size, *x.shape[2:])
        return x.transpose(2, 0, 4, 1, 3, 5)

    def scalars(self, x: jax.Array | None, padding: float | bool) -> jax.Array | None:
        """Return `[B, H, N]` as `[steps, B, H, splits, size]`."""
        if x is None:
            return None
        x = jnp.pad(x, ((0, 0), (0, 0), (0, self._padding)), constant_values=padding)
        return jnp.moveaxis(x.reshape(*x.shape[:2], self.splits, self.steps, self.size), 3, 0)

    def join(self, x: jax.Array) -> jax.Array:
        """Undo `tokens`."""
        x = x.transpose(1, 3, 0, 4, 2, 5)
        return x.reshape(x.shape[0], -1, *x.shape[4:])[:, : self.points]

    def join_scalars(self, x: jax.Array) -> jax.Array:
        """Undo `scalars`."""
        x = jnp.moveaxis(x, 0, 3)
        return x.reshape(*x.shape[:2], -1)[:, :, : self.points]

    def valid(self, operands: Operands) -> jax.Array | None:
        """Return which tokens exist and take part, None where all do."""
        batch, points, heads, _ = operands.k.shape
        if operands.mask is None and self._padding == 0:
            return None
        mask = jnp.ones((batch, points), bool) if operands.mask is None else operands.mask
        return self.scalars(jnp.broadcast_to(mask[:, None], (batch, heads, points)), False)


@dataclass(frozen=True)
class ChunkedBackend(Backend):
    """Tiles of `tokens` tokens and at most `latents` latents; as many splits as hold `elements` weights at once."""

    tokens: int
    latents: int
    elements: int
    target: Target

    @property
    def _dot(self) -> Dot:
        return Products(self.target.compiled).dot

    def tile_latents(self, latents: int) -> int:
        return min(self.latents, latents)

    def split_tokens(self, latents: Latents, operands: Operands) -> int:
        cut = self._cut(latents, operands)
        return cut.steps * cut.size

    def read_statistics(self, latents: Latents, operands: Operands, scale: float) -> ReadStatistics:
        cut = self._cut(latents, operands)
        one = functools.partial(tile.read_statistics, scale=scale, dot=self._dot)

        def step(carry: None, tokens: Tokens) -> tuple[None, tuple]:
            return None, _over_programs(one)(latents, tokens)

        return ReadStatistics(*map(cut.join_scalars, jax.lax.scan(step, None, self._tokens(cut, operands))[1]))

    def summarize(self, latents: Latents, operands: Operands, scale: float) -> State:
        cut = self._cut(latents, operands)
        batch, _, heads, channels = operands.v.shape

        def one(latents: Latents, tokens: Tokens, state: State) -> State:
            return tile.absorb(tile.write_logits(latents, tokens, scale, self._dot), tokens, state, self._dot)

        def step(state: State, tokens: Tokens) -> tuple[State, None]:
            return _over_programs(one)(latents, tokens, state), None

        start = empty_state((batch, heads, cut.splits, latents.bias.shape[0]), channels)
        return jax.lax.scan(step, start, self._tokens(cut, operands))[0]

    def read(self, reading: Reading, starts: State, scale: float) -> jax.Array:
        cut = self._cut(reading.latents, reading.operands)
        one = functools.partial(tile.read, scale=scale, dot=self._dot)

        def step(state: State, tokens: Tokens) -> tuple[State, jax.Array]:
            y, state = _over_programs(one)(reading.latents, tokens, state)
            return state, y

        return cut.join(jax.lax.scan(step, starts, self._reading_tokens(cut, reading))[1])

    def slopes(self, reading: Reading, dy: jax.Array, starts: State, scale: float) -> tuple[Any, Future]:
        cut = self._cut(reading.latents, reading.operands)
        one = functools.partial(tile.slopes, scale=scale, dot=self._dot)

        def step(carry: tuple[State, jax.Array, Future], tokens: Tokens) -> tuple[tuple, tuple]:
            state, faded, past = carry
            start = starts._replace(maximum=faded)
            slope, new, start, past = _over_programs(one)(reading.latents, tokens, state, start, past)
            return (new, start.maximum, past), (slope, state.maximum, state.mass)

        past = Future(jnp.zeros_like(starts.total), jnp.zeros_like(starts.mass))
        carry = (starts, starts.maximum, past)
        (_, _, past), walked = jax.lax.scan(step, carry, self._reading_tokens(cut, reading, dy))
        return walked, past

    def gradients(
        self, reading: Reading, dy: jax.Array, mean: jax.Array, walked: Any, ends: Future, scale: float
    ) -> Gradients:
        cut = self._cut(reading.latents, reading.operands)

        def one(
            latents: Latents, tokens: Tokens, slope: jax.Array, maximum: jax.Array, mass: jax.Array, future: Future
        ) -> tuple[Gradients, Future]:
            return tile.gradients(latents, tokens, State(maximum, mass, mass), slope, future, scale, self._dot)

        def step(carry: tuple, inputs: tuple) -> tuple[tuple, tuple]:
            future, queries = carry
            tokens, walked = inputs
            found, future = _over_programs(one)(reading.latents, tokens, *walked, future)
            queries = jax.tree.map(jnp.add, queries, (found.dq, found.dq_decode))
            return (future, queries), (found.dk, found.dv, found.dk_decode, found.dlogits)

        batch, heads, splits, latents = ends.slopes.shape
        queries = jax.tree.map(
            lambda q: jnp.zeros((batch, heads, splits, latents, q.shape[-1])),
            (reading.latents.q, reading.latents.q_decode),
        )
        inputs = (self._reading_tokens(cut, reading, dy, mean), walked)
        (_, queries), tokens = jax.lax.scan(step, (ends, queries), inputs, reverse=True)
        *tokens, dlogits = tokens
        dk, dv, dk_decode = jax.tree.map(cut.join, tokens)
        dlogits = None if dlogits is None else cut.join_scalars(dlogits)
        return Gradients(dk, dv, queries[0], dk_decode, queries[1], dlogits)

    def _cut(self, latents: Latents, operands: Operands) -> _Cut:
        batch, points, heads, _ = operands.k.shape
        size = min(self.tokens, points)
        tiles = -(-points // size)
        splits = self.elements // (batch * heads * latents.bias.shape[0] * size**2)
        steps = -(-tiles // max(1, min(splits, tiles)))
        return _Cut(points, -(-tiles // steps), steps, size)

    def _tokens(self, cut: _Cut, operands: Operands) -> Tokens:
        mask = operands.mask
        arrays = (operands.k, operands.v, operands.k_decode)
        if mask is not None:  # whatever padding holds must not reach a product
            arrays = jax.tree.map(lambda x: jnp.where(mask[:, :, None, None], x, 0), arrays)
        log_decay = cut.scalars(operands.token_decay, 0.0)
        return Tokens(*(cut.tokens(x) for x in arrays), cut.valid(operands), log_decay=log_decay)

    def _reading_tokens(
        self, cut: _Cut, reading: Reading, dy: jax.Array | None = None, mean: jax.Array | None = None
    ) -> Tokens:
        return self._tokens(cut, reading.operands)._replace(
            read_maximum=cut.scalars(reading.statistics.maximum, jnp.inf),
            read_mass=cut.scalars(reading.statistics.mass, 1.0),
            dy=cut.tokens(dy),
            mean=cut.scalars(mean, 0.0),
        )

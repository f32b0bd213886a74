"""The causal mixer in Pallas kernels, one for each operation of the scheme; the maths is in factored.py and tile.py."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from kernels._target import Target
from kernels._tiles import padded_width, store_rows, store_vector
from kernels._triton_lowering import plt
from kernels.causal_flare import factored, tile
from kernels.causal_flare.factored import Arithmetic, Part, Span
from kernels.causal_flare.operands import Operands, State, empty_state
from kernels.causal_flare.pallas_layout import Layout
from kernels.causal_flare.pallas_program import Program
from kernels.causal_flare.scheme import Backend, Reading, ReadStatistics
from kernels.causal_flare.table import Blocks
from kernels.causal_flare.tile import Future, Gradients, Latents, Tokens


def _statistics_kernel(inputs: Any, outputs: Any, *, layout: Layout, scale: float) -> None:
    """Maximum and mass of the read softmax of every token over one tile of latents."""
    (latent_refs, token_refs), (maximum_ref, mass_ref) = inputs, outputs
    program, size = Program.create(layout), layout.blocks.tokens
    latents = program.load_latents(latent_refs)

    def step(index: jax.Array, carry: None) -> None:
        start = index * size
        maximum, mass = tile.read_statistics(latents, program.load_tokens(token_refs, start, size), scale, program.dot)
        program.store_scalars(maximum_ref, start, maximum)
        program.store_scalars(mass_ref, start, mass)

    jax.lax.fori_loop(0, program.tiles(size), step, None)


def _summarize_kernel(inputs: Any, outputs: Any, *, layout: Layout, scale: float) -> None:
    """The state after one split on its own, in long tiles."""
    latent_refs, token_refs = inputs
    program, size = Program.create(layout), layout.blocks.long_tokens
    latents = program.load_latents(latent_refs)

    def step(index: jax.Array, state: State) -> State:
        tokens = program.load_tokens(token_refs, index * size, size)
        return tile.absorb(tile.write_logits(latents, tokens, scale, program.dot), tokens, state, program.dot)

    start = empty_state((layout.latents,), padded_width(layout.channels))
    state = jax.lax.fori_loop(0, program.tiles(size), step, start)
    store_vector(outputs.maximum, 0, state.maximum, None)
    store_vector(outputs.mass, 0, state.mass, None)
    store_rows(outputs.total, 0, state.total, layout.channels, None)


def _read_kernel(inputs: Any, outputs: Any, *, layout: Layout, scale: float) -> None:
    """Outputs of one split, from the state at its start."""
    (latent_refs, token_refs, start_refs), y_ref = inputs, outputs
    program, size = Program.create(layout), layout.blocks.tokens
    numbers = program.arithmetic
    latents = program.load_latents(latent_refs)

    def step(index: jax.Array, first: jax.Array, state: State) -> tuple[jax.Array, State]:
        start = index * size
        tokens = program.load_tokens(token_refs, start, size)
        logits = tile.write_logits(latents, tokens, scale, program.dot)
        span, part = _next_part(logits, tokens, state, first, numbers)
        y = factored.read(latents, tokens, logits, part, state, scale, numbers)
        program.store_tokens(y_ref, start, y, layout.channels, span)
        return span.last, factored.leave(part, state, tokens, numbers)

    _walk(program.tiles(size), size, step, program.load_state(start_refs))


def _next_part(
    logits: jax.Array, tokens: Tokens, state: State, first: jax.Array, numbers: Arithmetic
) -> tuple[Span, Part]:
    """Return as long a part as is possible from the token `first` of the tile on, behind the state."""
    size = logits.shape[1]
    frame = factored.make_frame(logits, tokens, state, Span(first, size), numbers)
    span = Span(first, factored.end_of_part(frame, first))
    which = jnp.arange(size, dtype=jnp.int32) < span.last
    return span, factored.make_part(frame, span, which, numbers, tokens.v.dtype)


def _walk(tiles: jax.Array | int, size: int, step: Callable[..., tuple[jax.Array, Any]], carry: Any) -> Any:
    """Call `step(tile, first token, carry)`, which returns where the part ends that it has done, to the last token."""

    def body(walk: tuple[jax.Array, jax.Array, Any]) -> tuple[jax.Array, jax.Array, Any]:
        index, first, carry = walk
        last, carry = step(index, first, carry)
        done = last >= size
        return jnp.where(done, index + 1, index), jnp.where(done, 0, last), carry

    return jax.lax.while_loop(lambda walk: walk[0] < tiles, body, (jnp.int32(0), jnp.int32(0), carry))[2]


def _slopes_kernel(inputs: Any, outputs: Any, *, layout: Layout, scale: float) -> None:
    """First walk of the backward, forwards: dy·z of every token and latent, and the state that enters every tile."""
    (latent_refs, token_refs, start_refs), ((slope_ref, maximum_ref, mass_ref), past_refs) = inputs, outputs
    program, size = Program.create(layout), layout.blocks.tokens
    numbers = program.arithmetic
    latents = program.load_latents(latent_refs)
    origin = program.load_state(start_refs)

    def step(index: jax.Array, first: jax.Array, carry: tuple) -> tuple[jax.Array, tuple]:
        state, faded, past = carry
        start = index * size
        enters = jnp.broadcast_to(first == 0, state.maximum.shape)
        plt.store(maximum_ref.at[index, :], state.maximum, mask=enters)
        plt.store(mass_ref.at[index, :], state.mass, mask=enters)
        tokens = program.load_tokens(token_refs, start, size)
        logits = tile.write_logits(latents, tokens, scale, program.dot)
        span, part = _next_part(logits, tokens, state, first, numbers)
        states = (state, origin._replace(maximum=faded))
        slope, behind, past = factored.slopes(latents, tokens, logits, part, states, past, scale, numbers)
        program.store_slopes(slope_ref, start, slope, span)
        return span.last, (factored.leave(part, state, tokens, numbers), behind.maximum, past)

    past = Future(jnp.zeros_like(origin.total), jnp.zeros_like(origin.mass))
    _, _, past = _walk(program.tiles(size), size, step, (origin, origin.maximum, past))
    store_rows(past_refs.values, 0, past.values, layout.channels, None)
    store_vector(past_refs.slopes, 0, past.slopes, None)


def _gradients_kernel(inputs: Any, outputs: Gradients, *, layout: Layout, scale: float) -> None:
    """Second walk of the backward, from the last token to the first: all gradients."""
    latent_refs, token_refs, (slope_ref, maximum_ref, mass_ref), end_refs = inputs
    program, size = Program.create(layout), layout.blocks.tokens
    numbers = program.arithmetic
    latents = program.load_latents(latent_refs)

    def step(walk: tuple) -> tuple:
        index, last, length, future, queries = walk
        start, first = index * size, jnp.maximum(last - length, 0)
        maximum, mass = plt.load(maximum_ref.at[index, :]), plt.load(mass_ref.at[index, :])
        slope = program.load_slopes(slope_ref, start, size)
        tokens = program.load_tokens(token_refs, start, size)
        logits = tile.write_logits(latents, tokens, scale, program.dot)
        frame = factored.make_frame(logits, tokens, State(maximum, mass, mass), Span(first, last), numbers, behind=True)
        # What is too long for one part is done by halves; this turn then has no tokens.
        fits = factored.is_part(frame, first)
        span = Span(jnp.where(fits, first, last), last)
        part = factored.make_part(frame, span, fits, numbers, tokens.v.dtype, behind=True)
        found, before = factored.gradients(latents, tokens, logits, part, slope, future, scale, numbers)
        future = jax.tree.map(lambda new, old: jnp.where(fits, new, old), before, future)
        program.store_tokens(outputs.dk, start, found.dk, layout.width, span)
        program.store_tokens(outputs.dv, start, found.dv, layout.channels, span)
        if outputs.dk_decode is not None:
            program.store_tokens(outputs.dk_decode, start, found.dk_decode, layout.decode_width, span)
        if outputs.dlogits is not None:
            program.store_scalars(outputs.dlogits, start, found.dlogits, span)
        queries = jax.tree.map(jnp.add, queries, (found.dq, found.dq_decode))
        done = span.first == 0
        index, last = jnp.where(done, index - 1, index), jnp.where(done, size, span.first)
        return index, last, jnp.where(fits, size, length // 2), future, queries

    queries = jax.tree.map(lambda q: jnp.zeros(q.shape, jnp.float32), (latents.q, latents.q_decode))
    walk = (
        program.tiles(size) - jnp.int32(1),
        jnp.int32(size),
        jnp.int32(size),
        program.load_future(end_refs),
        queries,
    )
    *_, queries = jax.lax.while_loop(lambda walk: walk[0] >= 0, step, walk)
    store_rows(outputs.dq, 0, queries[0], layout.width, None)
    if outputs.dq_decode is not None:
        store_rows(outputs.dq_decode, 0, queries[1], layout.decode_width, None)


@dataclass(frozen=True)
class PallasBackend(Backend):
    """The operations of the scheme as kernels; sides that are no powers of two are padded in registers."""

    blocks: Blocks
    target: Target

    def tile_latents(self, latents: int) -> int:
        return min(self.blocks.latents, padded_width(latents))

    def split_tokens(self, latents: Latents, operands: Operands) -> int:
        return Layout.create(self.blocks, latents, operands, self.target).split_tokens

    def read_statistics(self, latents: Latents, operands: Operands, scale: float) -> ReadStatistics:
        layout = Layout.create(self.blocks, latents, operands, self.target)
        outputs = (layout.scalar_output(), layout.scalar_output())
        tokens = _tokens(operands)
        return ReadStatistics(*self._launch(_statistics_kernel, layout, scale, latents, tokens, (), (), outputs))

    def summarize(self, latents: Latents, operands: Operands, scale: float) -> State:
        layout = Layout.create(self.blocks, latents, operands, self.target)
        vectors = layout.split_vectors()
        outputs = State(vectors, vectors, layout.split_rows(layout.channels))
        return self._launch(_summarize_kernel, layout, scale, latents, _tokens(operands), (), (), outputs)

    def read(self, reading: Reading, starts: State, scale: float) -> jax.Array:
        layout = Layout.create(self.blocks, reading.latents, reading.operands, self.target)
        output = layout.token_output(layout.channels)
        tokens = _reading_tokens(reading)
        return self._launch(
            _read_kernel, layout, scale, reading.latents, tokens, (starts,), (_state_specs(layout),), output
        )

    def slopes(self, reading: Reading, dy: jax.Array, starts: State, scale: float) -> tuple[Any, Future]:
        layout = Layout.create(self.blocks, reading.latents, reading.operands, self.target)
        walked = (layout.slope_output(), layout.step_output(), layout.step_output())
        outputs = (walked, Future(layout.split_rows(layout.channels), layout.split_vectors()))
        tokens = _reading_tokens(reading, dy)
        return self._launch(
            _slopes_kernel, layout, scale, reading.latents, tokens, (starts,), (_state_specs(layout),), outputs
        )

    def gradients(
        self, reading: Reading, dy: jax.Array, mean: jax.Array, walked: Any, ends: Future, scale: float
    ) -> Gradients:
        layout = Layout.create(self.blocks, reading.latents, reading.operands, self.target)
        separate = layout.decode_width is not None
        outputs = Gradients(
            layout.token_output(layout.width),
            layout.token_output(layout.channels),
            layout.split_rows(layout.width),
            layout.token_output(layout.decode_width) if separate else None,
            layout.split_rows(layout.decode_width) if separate else None,
            None if reading.operands.log_decay is None else layout.scalar_output(),
        )
        walked_specs = (layout.slope_output().spec, layout.step_output().spec, layout.step_output().spec)
        end_specs = Future(layout.split_rows(layout.channels).spec, layout.split_vectors().spec)
        tokens = _reading_tokens(reading, dy, mean)
        return self._launch(
            _gradients_kernel,
            layout,
            scale,
            reading.latents,
            tokens,
            (walked, ends),
            (walked_specs, end_specs),
            outputs,
        )

    def _launch(
        self,
        kernel: Any,
        layout: Layout,
        scale: float,
        latents: Latents,
        tokens: Tokens,
        states: tuple,
        state_specs: tuple,
        outputs: Any,
    ) -> Any:
        specs = (layout.latent_inputs(latents), layout.token_inputs(tokens), *state_specs)
        name = "causal_flare" + kernel.__name__.removesuffix("_kernel")
        kernel = functools.partial(kernel, layout=layout, scale=scale)
        return layout.launch(kernel, name, (latents, tokens, *states), specs, outputs)


def _tokens(operands: Operands) -> Tokens:
    mask = None if operands.mask is None else operands.mask.astype(jnp.int8)
    return Tokens(operands.k, operands.v, operands.k_decode, mask, log_decay=operands.token_decay)


def _reading_tokens(reading: Reading, dy: jax.Array | None = None, mean: jax.Array | None = None) -> Tokens:
    statistics = reading.statistics
    return _tokens(reading.operands)._replace(
        read_maximum=statistics.maximum, read_mass=statistics.mass, dy=dy, mean=mean
    )


def _state_specs(layout: Layout) -> State:
    vectors = layout.split_vectors().spec
    return State(vectors, vectors, layout.split_rows(layout.channels).spec)

"""Linear attention with decay in Pallas kernels, a program per head, split, sample; the maths is in gated_tile.py."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from kernels._pallas import Operand, Output, pallas_call
from kernels._target import Target
from kernels._tile_products import Products
from kernels._tiles import LOG2_E, load_rows, load_vector, padded_width, store_rows, store_vector
from kernels.causal_linear_attention import gated_tile as tile
from kernels.causal_linear_attention.gated_scheme import Backend, states_between
from kernels.causal_linear_attention.gated_tile import Arithmetic, Span
from kernels.causal_linear_attention.table import GatedBlocks
from kernels.causal_linear_attention.walk import Walk, existing, point_rows, split_states


@dataclass(frozen=True)
class _Program:
    """What a program does with memory; `width` and `columns` are those of keys and values, `split` is its own."""

    walk: Walk
    width: int
    columns: int
    numbers: Arithmetic
    split: Any = None

    def running(self) -> "_Program":
        """Return the program that is running; called at the top of a kernel, outside all loops."""
        return _Program(self.walk, self.width, self.columns, self.numbers, pl.program_id(1))

    @property
    def tiles(self) -> Any:
        return self.walk.tiles(self.split)

    def keys(self, ref: Any, start: jax.Array) -> jax.Array:
        return load_rows(ref, start, self.walk.block, self.width, self._valid(start))

    def values(self, ref: Any, start: jax.Array) -> jax.Array:
        return load_rows(ref, start, self.walk.block, self.columns, self._valid(start))

    def decays(self, ref: Any, start: jax.Array) -> jax.Array:
        """Load decays `[t, w]` in powers of two, no lower than what empties the state; points beyond the end have 0."""
        if len(ref.shape) == 1:
            decay = load_vector(ref, start, self.walk.block, self._valid(start), 0.0)[:, None]
        else:
            decay = self.keys(ref, start)
        return jnp.maximum(LOG2_E * decay, tile.LOWEST_DECAY)

    def state(self, ref: Any, index: Any = 0) -> jax.Array:
        """Load the state that is number `index` of those which follow one another."""
        return load_rows(ref, index * self.width, padded_width(self.width), self.columns, existing(self.width))

    def store_state(self, ref: Any, state: jax.Array, index: Any = 0) -> None:
        store_rows(ref, index * self.width, state, self.columns, existing(self.width))

    def store_total(self, ref: Any, total: jax.Array) -> None:
        store_vector(ref, 0, total, None if total.shape[0] == 1 else existing(self.width))

    def store(self, ref: Any, start: jax.Array, value: jax.Array, width: int, span: Span) -> None:
        """Store the rows of the points of a part, or one number of each."""
        which, valid = span.holds(self.walk.block), self._valid(start)
        which = which if valid is None else which & valid
        if len(ref.shape) == 1:
            store_vector(ref, start, jnp.sum(value, axis=1), which)
        else:
            store_rows(ref, start, value, width, which)

    def _valid(self, start: jax.Array) -> jax.Array | None:
        return self.walk.valid(start, self.split)


def _sums_kernel(inputs: Any, outputs: Any, *, program: _Program, reverse: bool) -> None:
    """What one split adds to the state, and the sum of its decays; of the walk back, if `reverse`."""
    (k_ref, v_ref, decay_ref), (sums_ref, total_ref), program = inputs, outputs, program.running()
    tiles = program.tiles

    def step(index: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        state, totals = carry
        start = (tiles - 1 - index if reverse else index) * program.walk.block
        k, v, decay = program.keys(k_ref, start), program.values(v_ref, start), program.decays(decay_ref, start)
        state, total = tile.absorb(k, v, decay, state, program.numbers, reverse=reverse)
        return state, totals + total

    decays = 1 if len(decay_ref.shape) == 1 else padded_width(program.width)
    zeros = jnp.zeros((padded_width(program.width), padded_width(program.columns)), jnp.float32)
    state, totals = jax.lax.fori_loop(0, tiles, step, (zeros, jnp.zeros(decays, jnp.float32)))
    program.store_state(sums_ref, state)
    program.store_total(total_ref, totals)


def _states_kernel(inputs: Any, states_ref: Any, *, program: _Program) -> None:
    """The states that enter the tiles of one split."""
    (k_ref, v_ref, decay_ref, start_ref), program = inputs, program.running()

    def step(index: jax.Array, state: jax.Array) -> jax.Array:
        program.store_state(states_ref, state, index)
        start = index * program.walk.block
        k, v, decay = program.keys(k_ref, start), program.values(v_ref, start), program.decays(decay_ref, start)
        return tile.absorb(k, v, decay, state, program.numbers)[0]

    jax.lax.fori_loop(0, program.tiles, step, program.state(start_ref))


def _mix_kernel(inputs: Any, y_ref: Any, *, program: _Program, scale: float) -> None:
    """Outputs of one split, from the state at its start."""
    (q_ref, k_ref, v_ref, decay_ref, start_ref), program = inputs, program.running()
    size, tiles = program.walk.block, program.tiles

    def step(walk: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        index, first, state = walk
        start = index * size
        q, k = program.keys(q_ref, start), program.keys(k_ref, start)
        v, decay = program.values(v_ref, start), program.decays(decay_ref, start)
        span, y, state = tile.read(q, k, v, decay, state, first, program.numbers)
        program.store(y_ref, start, scale * y, program.columns, span)
        done = span.last >= size
        return jnp.where(done, index + 1, index), jnp.where(done, 0, span.last), state

    walk = (jnp.int32(0), jnp.int32(0), program.state(start_ref))
    jax.lax.while_loop(lambda walk: walk[0] < tiles, step, walk)


def _gradients_kernel(inputs: Any, outputs: Any, *, program: _Program, scale: float) -> None:
    """Walk backwards over one split: all gradients, from the states that enter tiles and the gradient at the end."""
    (q_ref, k_ref, v_ref, dy_ref, decay_ref, states_ref, end_ref), program = inputs, program.running()
    (dq_ref, dk_ref, dv_ref, ddecay_ref), size = outputs, program.walk.block

    def step(walk: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        index, last, future = walk
        start = index * size
        q, k = program.keys(q_ref, start), program.keys(k_ref, start)
        v, dy = program.values(v_ref, start), program.values(dy_ref, start)
        decay, state = program.decays(decay_ref, start), program.state(states_ref, index)
        part = tile.make_part(q, k, v, decay, state, last, program.numbers)
        dv = tile.value_gradients(part, dy, future, program.numbers)
        program.store(dv_ref, start, scale * dv, program.columns, part.span)
        *found, future = tile.key_gradients(part, v, dy, decay, future, program.numbers)
        for ref, value in zip((dq_ref, dk_ref, ddecay_ref), found, strict=True):
            program.store(ref, start, scale * value, program.width, part.span)
        first = part.span.first
        done = first <= 0
        return jnp.where(done, index - 1, index), jnp.where(done, size, first), future

    walk = (program.tiles - jnp.int32(1), jnp.int32(size), program.state(end_ref))
    jax.lax.while_loop(lambda walk: walk[0] >= 0, step, walk)


@dataclass(frozen=True)
class PallasBackend(Backend):
    """Forward and backward as kernels; widths that are no powers of two are padded in registers."""

    blocks: GatedBlocks
    target: Target

    def forward(
        self, q: jax.Array, k: jax.Array, v: jax.Array, decay: jax.Array, state: jax.Array, scale: float
    ) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        starts, final = states_between(state, *self._sums(k, v, decay, reverse=False))
        layout = _Layout(self, q, v, decay, self.blocks.mix)
        y = layout.launch(
            functools.partial(_mix_kernel, scale=scale),
            (q, k, v, decay, starts),
            (layout.keys, layout.keys, layout.values, layout.decays, layout.states),
            Output(v.shape, v.dtype, layout.values),
        )
        return y, final, starts

    def backward(
        self,
        arrays: tuple[jax.Array, ...],
        kept: dict[int, jax.Array],
        dy: jax.Array,
        dfinal: jax.Array,
        scale: float,
    ) -> tuple[jax.Array, ...]:
        q, k, v, decay, _ = arrays
        sums = [jnp.flip(x, axis=2) for x in self._sums(q, dy, decay, reverse=True)]
        ends, dstate = states_between(dfinal / scale, *sums)
        starts = kept[ends.shape[2]]
        layout = _Layout(self, q, v, decay, self.blocks.gradients)
        states = layout.launch(
            _states_kernel,
            (k, v, decay, starts),
            (layout.keys, layout.values, layout.decays, layout.states),
            layout.tile_states,
        )
        found = layout.launch(
            functools.partial(_gradients_kernel, scale=scale),
            (q, k, v, dy, decay, states, jnp.flip(ends, axis=2)),
            (*[layout.keys] * 2, *[layout.values] * 2, layout.decays, layout.tile_states.spec, layout.states),
            (
                Output(q.shape, q.dtype, layout.keys),
                Output(k.shape, k.dtype, layout.keys),
                Output(v.shape, v.dtype, layout.values),
                Output(decay.shape, decay.dtype, layout.decays),
            ),
        )
        return *found, scale * dstate

    def _sums(self, k: jax.Array, v: jax.Array, decay: jax.Array, *, reverse: bool) -> tuple[jax.Array, jax.Array]:
        layout = _Layout(self, k, v, decay, self.blocks.sums)
        batch, _, heads, width = k.shape
        channels = decay.shape[3] if decay.ndim == 4 else 1
        total = pl.BlockSpec(
            (None, None, None, padded_width(channels) if decay.ndim == 4 else 1), lambda h, s, b: (b, h, s, 0)
        )
        sums, totals = layout.launch(
            functools.partial(_sums_kernel, reverse=reverse),
            (k, v, decay),
            (layout.keys, layout.values, layout.decays),
            (
                Output((batch, heads, layout.walk.splits, width, v.shape[3]), jnp.float32, layout.states),
                Output((batch, heads, layout.walk.splits, channels), jnp.float32, total),
            ),
        )
        return sums, totals


@dataclass(frozen=True)
class _Layout:
    """The blocks that the programs of one kernel see of keys `k` `[B, N, H, D]`, values, decays and states."""

    backend: PallasBackend
    k: jax.Array
    v: jax.Array
    decay: jax.Array
    blocks: Any

    @property
    def walk(self) -> Walk:
        batch, points, heads, _ = self.k.shape
        return Walk(points, self.backend.blocks.split_points(points, batch * heads), self.blocks.points)

    @property
    def keys(self) -> pl.BlockSpec:
        return point_rows(self.walk, padded_width(self.k.shape[3]))

    @property
    def values(self) -> pl.BlockSpec:
        return point_rows(self.walk, padded_width(self.v.shape[3]))

    @property
    def decays(self) -> pl.BlockSpec:
        if self.decay.ndim == 4:
            return self.keys
        return pl.BlockSpec((None, self.walk.split_points, None), lambda h, s, b: (b, s, h))

    @property
    def states(self) -> pl.BlockSpec:
        """Those of the splits `[B, H, splits, D, C]`."""
        return split_states(padded_width(self.k.shape[3]), padded_width(self.v.shape[3]))

    @property
    def tile_states(self) -> Output:
        """Those of the tiles, one below the other, `[B, H, tiles D, C]`."""
        batch, _, heads, width = self.k.shape
        rows, columns = self.walk.split_points // self.walk.block * width, self.v.shape[3]
        spec = pl.BlockSpec((None, None, rows, padded_width(columns)), lambda h, s, b: (b, h, s, 0))
        return Output((batch, heads, self.walk.splits * rows, columns), jnp.float32, spec)

    def launch(
        self, kernel: Callable[..., None], arrays: tuple[jax.Array, ...], specs: tuple[pl.BlockSpec, ...], outputs: Any
    ) -> Any:
        """Run `kernel(inputs, outputs, program=...)` for every head, split and sample."""
        batch, _, heads, width = self.k.shape
        target = self.backend.target
        products = Products(target.compiled, cuda=target.platform == "cuda")
        numbers = Arithmetic(functools.partial(products.dot, exact=self.backend.blocks.exact), products.exp2)
        program = _Program(self.walk, width, self.v.shape[3], numbers)
        function = kernel.func if isinstance(kernel, functools.partial) else kernel
        return pallas_call(
            functools.partial(kernel, program=program),
            target=target,
            name="gated_linear" + function.__name__.removesuffix("_kernel"),
            grid=(heads, self.walk.splits, batch),
            inputs=tuple(map(Operand, arrays, specs)),
            outputs=outputs,
            warps=self.blocks.warps,
            stages=self.blocks.stages,
        )

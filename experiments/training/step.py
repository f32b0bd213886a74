"""One optimizer step as a pure function, and a chunk of an epoch as a scan over such steps, for one seed or several."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from experiments.training.diagnostics import make_diagnosis
from experiments.training.mesh import Mesh
from experiments.training.packing import FROZEN, Packed, Packing, Params
from experiments.training.sampling import Epochs
from experiments.training.state import TrainState
from experiments.training.task import Batch, Loss, Task
from kernels import side_by_side

StepMetrics = dict[str, Array]
Step = Callable[[TrainState, Batch], tuple[TrainState, StepMetrics]]
_Begin = Callable[[TrainState], tuple[TrainState, Array]]
_Steps = Callable[[TrainState], tuple[TrainState, StepMetrics]]
_Update = Callable[[TrainState, Array, Params], tuple[TrainState, StepMetrics]]


def make_step(task: Task, optimizer: optax.GradientTransformation, packing: Packing, ema_decay: float) -> Step:
    """Return `step(state, batches)`; `batches` holds arrays [accumulation, B, ...], all samples of an optimizer step.

    For a loss that presents its batch several times it makes all steps on it, and the metrics are arrays [repeats].
    """
    update = _make_update(optimizer, packing, ema_decay)
    begin = _make_begin(task, packing)
    gradients, diagnose = _make_gradients(task.loss), make_diagnosis(task)

    def present(
        state: TrainState, batches: Batch, counted: Array | int, carry: Any, first: Array | bool
    ) -> tuple[tuple[TrainState, Any], StepMetrics]:
        state, key = begin(state)
        params = packing.unpack(state.params)
        value, carry, grads = gradients(params, batches, key, counted, carry, first)
        new, metrics = update(state, value, grads)
        return (new, carry), metrics | diagnose(params, batches, key, state.step)

    def step(state: TrainState, batches: Batch) -> tuple[TrainState, StepMetrics]:
        counted = _counted(task.loss, batches)
        if task.loss.empty is None:
            (state, _), metrics = present(state, batches, counted, (), True)
            return state, metrics

        def once_more(carried: tuple[TrainState, Any], index: Array) -> tuple[tuple[TrainState, Any], StepMetrics]:
            return present(carried[0], batches, counted, carried[1], index == 0)

        start = (state, task.loss.empty({name: value[0] for name, value in batches.items()}))
        (state, _), metrics = jax.lax.scan(once_more, start, jnp.arange(task.loss.repeats))
        return state, metrics

    return step


def average_decay(decay: float, step: Array | int) -> Array:
    """Return by what the average of the weights is multiplied at optimizer step `step` (from 0).

    The average never looks back further than a ninth of the steps so far, until that is the horizon of `decay`: a short
    run would otherwise report weights of its beginning, among them the initial ones.
    """
    return jnp.minimum(jnp.float32(decay), (1.0 + step) / (10.0 + step))


def _make_update(optimizer: optax.GradientTransformation, packing: Packing, ema_decay: float) -> _Update:
    def update(state: TrainState, value: Array, grads: Params) -> tuple[TrainState, StepMetrics]:
        packed = packing.pack(grads)
        if FROZEN in packed:  # no optimizer moves what has no gradient and no decay
            packed[FROZEN] = jnp.zeros_like(packed[FROZEN])
        updates, opt_state = optimizer.update(packed, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        decay = average_decay(ema_decay, state.step)
        ema = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, state.ema, params) if state.ema else {}
        if FROZEN in ema:  # the average of equal numbers is rounded
            ema[FROZEN] = params[FROZEN]
        metrics = {"loss": value, "grad_norm": optax.tree.norm(packed)}
        return TrainState(state.step + 1, params, ema, opt_state, state.key), metrics

    return update


def _make_begin(task: Task, packing: Packing) -> _Begin:
    """Return the function that gives a step's state, with parameters and their average refreshed, and its key."""

    def begin(state: TrainState) -> tuple[TrainState, Array]:
        key = jax.random.fold_in(state.key, state.step)
        if task.refresh is None:
            return state, key

        def replace(packed: Packed) -> Packed:
            return packing.pack(task.refresh(packing.unpack(packed), state.step, jax.random.fold_in(key, 0xF5E5)))

        return state._replace(params=replace(state.params), ema=replace(state.ema) if state.ema else {}), key

    return begin


def _counted(loss: Loss, batches: Batch) -> Array | int:
    """Return by what the sum of a step is divided: labels and points weigh the same in every batch of the step."""
    if loss.counts is not None:
        return jnp.maximum(jnp.sum(jax.vmap(loss.counts)(batches)), 1)
    count, size = next(iter(batches.values())).shape[:2]
    return count * size


def _make_gradients(loss: Loss) -> Callable[..., tuple[Array, Any, Params]]:
    """Return the function that gives the loss of a step, what it carries on, and its gradients."""

    def part(
        params: Params, batch: Batch, key: Array, counted: Array | int, carry: Any, first: Array | bool
    ) -> tuple[Array, Any]:
        """Return the part of a batch in the loss of the whole step."""
        losses = loss.of(params, batch, key, carry, first)
        value = jnp.sum(losses.values) / counted
        return value if losses.beside is None else value + losses.beside, losses.carry

    differentiate = jax.value_and_grad(part, has_aux=True)

    def gradients(
        params: Params, batches: Batch, key: Array, counted: Array | int, carry: Any, first: Array | bool
    ) -> tuple[Array, Any, Params]:
        count = len(next(iter(batches.values())))
        if count == 1:
            batch = {name: value[0] for name, value in batches.items()}
            (value, carry), grads = differentiate(params, batch, key, counted, carry, first)
            return value, carry, grads

        def add(total: tuple[Array, Params], inputs: tuple[Batch, Array]) -> tuple[tuple[Array, Params], None]:
            (value, _), grads = differentiate(params, *inputs, counted, carry, first)
            return jax.tree.map(jnp.add, total, (value, grads)), None

        zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, params))
        (value, grads), _ = jax.lax.scan(add, zero, (batches, jax.random.split(key, count)))
        return value, carry, grads

    return gradients


def make_chunk(
    step: Step, *, epochs: Epochs, repeats: int = 1, mesh: Mesh
) -> Callable[..., tuple[TrainState, StepMetrics]]:
    """Return `chunk(state, data, epoch, first, *, length)`: steps first … first + length − 1 of an epoch, compiled.

    `data` holds the arrays of every bucket of `epochs`; with more than one, every bucket has its own step in the same
    program. `step` makes `repeats` steps on every batch, of which `first` and `length` are multiples. The metrics come
    back stacked, [length].
    """
    steps = _make_steps(step, epochs, repeats, mesh)

    @partial(jax.jit, static_argnames="length", donate_argnums=0)
    @mesh.traced
    def chunk(state: TrainState, *of_epoch: Any, length: int) -> tuple[TrainState, StepMetrics]:
        return mesh.constrain_replicated(steps(state, *of_epoch, length=length))

    return chunk


def make_chunk_of_seeds(
    step: Step, *, epochs: Epochs, repeats: int = 1, mesh: Mesh, batched: bool
) -> Callable[..., tuple[TrainState, StepMetrics]]:
    """Return `chunk(states, active, data, epoch, first, *, length)`: that of `make_chunk` for several seeds at once.

    Arrays of `states` and of the metrics have the seeds on their first axis. Those that `active` [S] leaves out keep
    their state; the others are at the same step. `batched` computes all seeds in the same operations, which fills an
    accelerator; otherwise they come one after the other in the same program, each computed exactly as alone.
    """
    steps = _make_steps(step, epochs, repeats, mesh)

    def in_turn(states: TrainState, active: Array, run: _Steps) -> tuple[TrainState, StepMetrics]:
        run = jax.jit(run)  # traced once, for its shapes and for the program

        def skip(state: TrainState) -> tuple[TrainState, StepMetrics]:
            _, metrics = jax.eval_shape(run, state)
            return state, jax.tree.map(lambda value: jnp.zeros(value.shape, value.dtype), metrics)

        return jax.lax.map(lambda pair: jax.lax.cond(pair[1], run, skip, pair[0]), (states, active))

    def together(states: TrainState, active: Array, run: _Steps) -> tuple[TrainState, StepMetrics]:
        # The number of the step is no array over seeds: a branch that it decides would be computed both ways.
        axes = TrainState(step=None, params=0, ema=0, opt_state=0, key=0)
        now = jnp.max(jnp.where(active, states.step, 0))
        # XLA cuts rows over several devices, and so the sums over them.
        copies = len(active) if mesh.devices.size == 1 else 1
        with side_by_side(copies):
            new, metrics = jax.vmap(run, in_axes=(axes,), out_axes=(axes, 0))(states._replace(step=now))

        def kept(new: Array, old: Array) -> Array:
            return jnp.where(active.reshape(-1, *[1] * (old.ndim - 1)), new, old)

        return jax.tree.map(kept, new, states), metrics

    @partial(jax.jit, static_argnames="length", donate_argnums=0)
    @mesh.traced
    def chunk(states: TrainState, active: Array, *of_epoch: Any, length: int) -> tuple[TrainState, StepMetrics]:
        way = together if batched else in_turn
        return mesh.constrain_replicated(way(states, active, lambda state: steps(state, *of_epoch, length=length)))

    return chunk


def _make_steps(step: Step, epochs: Epochs, repeats: int, mesh: Mesh) -> Callable[..., tuple[TrainState, StepMetrics]]:
    """Return the function that `make_chunk` compiles."""

    def steps(
        state: TrainState, data: tuple[Mapping[str, Array], ...], epoch: Array, first: Array, *, length: int
    ) -> tuple[TrainState, StepMetrics]:
        def on_bucket(rows: Mapping[str, Array], carry: TrainState, index: Array) -> tuple[TrainState, StepMetrics]:
            return step(carry, epochs.gather(rows, index, mesh))

        def body(carry: TrainState, chosen: tuple[Array, Array]) -> tuple[TrainState, StepMetrics]:
            index, bucket = chosen
            if len(data) == 1:
                return on_bucket(data[0], carry, index)
            return jax.lax.switch(bucket, [partial(on_bucket, rows) for rows in data], carry, index)

        chosen = tuple(
            jax.lax.dynamic_slice_in_dim(values, first // repeats, length // repeats)
            for values in epochs.order(state.key, epoch)
        )
        state, metrics = jax.lax.scan(body, state, chosen)
        return state, {name: value.reshape(length) for name, value in metrics.items()}

    return steps

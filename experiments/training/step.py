"""One optimizer step as a pure function, and a chunk of an epoch as a scan over such steps."""

from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax import Array

from experiments.training.mesh import Mesh
from experiments.training.packing import Packing, Params
from experiments.training.state import TrainState
from experiments.training.task import Batch, Task

StepMetrics = dict[str, Array]


def make_step(
    task: Task, optimizer: optax.GradientTransformation, packing: Packing, ema_decay: float
) -> Callable[[TrainState, Batch], tuple[TrainState, StepMetrics]]:
    """Return `step(state, batches)`; `batches` holds arrays [accumulation, B, ...] whose gradients are averaged."""

    def loss(params: Params, batch: Batch, key: Array) -> Array:
        return jnp.mean(task.loss(task.predict(params, batch, key), batch))

    def gradients(params: Params, batches: Batch, key: Array) -> tuple[Array, Params]:
        count = next(iter(batches.values())).shape[0]
        if count == 1:
            return jax.value_and_grad(loss)(params, {name: value[0] for name, value in batches.items()}, key)

        def add(total: tuple[Array, Params], inputs: tuple[Batch, Array]) -> tuple[tuple[Array, Params], None]:
            return jax.tree.map(jnp.add, total, jax.value_and_grad(loss)(params, *inputs)), None

        zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, params))
        total, _ = jax.lax.scan(add, zero, (batches, jax.random.split(key, count)))
        return jax.tree.map(lambda value: value / count, total)

    def step(state: TrainState, batches: Batch) -> tuple[TrainState, StepMetrics]:
        key = jax.random.fold_in(state.key, state.step)
        value, grads = gradients(packing.unpack(state.params), batches, key)
        packed = packing.pack(grads)
        updates, opt_state = optimizer.update(packed, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = (
            jax.tree.map(lambda old, new: ema_decay * old + (1 - ema_decay) * new, state.ema, params)
            if state.ema
            else {}
        )
        metrics = {"loss": value, "grad_norm": optax.tree.norm(packed)}
        return TrainState(state.step + 1, params, ema, opt_state, state.key), metrics

    return step


def epoch_order(key: Array, epoch: Array | int, num_train: int) -> Array:
    """Return the order of the samples in `epoch` (from 0), a function of the seed and the epoch alone."""
    return jax.random.permutation(jax.random.fold_in(jax.random.fold_in(key, 0x5EED), epoch), num_train)


def make_chunk(
    step: Callable[[TrainState, Batch], tuple[TrainState, StepMetrics]],
    *,
    num_train: int,
    batch_size: int,
    accumulation: int,
    mesh: Mesh,
) -> Callable[..., tuple[TrainState, StepMetrics]]:
    """Return `chunk(state, data, epoch, first, *, length)`: steps first … first + length − 1 of an epoch, compiled.

    The metrics come back stacked, [length]. The last incomplete batch of an epoch is left out.
    """
    steps_per_epoch = num_train // (batch_size * accumulation)
    used = steps_per_epoch * accumulation * batch_size

    @partial(jax.jit, static_argnames="length", donate_argnums=0)
    def chunk(
        state: TrainState, data: Mapping[str, Array], epoch: Array, first: Array, *, length: int
    ) -> tuple[TrainState, StepMetrics]:
        order = epoch_order(state.key, epoch, num_train)[:used].reshape(steps_per_epoch, accumulation, batch_size)

        def body(carry: TrainState, index: Array) -> tuple[TrainState, StepMetrics]:
            batches = {name: mesh.constrain_batch(value[index]) for name, value in data.items()}
            return step(carry, batches)

        state, metrics = jax.lax.scan(body, state, jax.lax.dynamic_slice_in_dim(order, first, length))
        return mesh.constrain_replicated(state), mesh.constrain_replicated(metrics)

    return chunk

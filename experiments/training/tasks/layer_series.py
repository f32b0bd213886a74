"""The fields of a part after the next group of layers, printed part by part (additive manufacturing)."""

from collections.abc import Callable, Collection

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int

from data_pipeline.dataset import PDEDataset
from experiments.errors import UserError
from experiments.training import losses
from experiments.training.packing import Params
from experiments.training.task import Batch, Loss, Task
from experiments.training.tasks.frames import frame_at
from experiments.training.tasks.inputs import ModelCall, task_arrays
from experiments.training.tasks.layer_metrics import case_metrics, step_metrics
from experiments.training.tasks.symmetries import random_symmetries, turned

# A state farther than this from 0, in units of the fields, has diverged; held there, its errors stay numbers.
_FARTHEST = 1e3

Step = Callable[[Float[Array, "B N C"], Bool[Array, "B N"]], Float[Array, "B N C"]]


def layer_series_task(
    dataset: PDEDataset,
    apply: Callable[..., Array],
    points_multiple: int = 1,
    call_inputs: Collection[str] = (),
    *,
    noise: float = 0.0,
    fill_new_layer: bool = False,
    first: int = 1,
    teacher_forced: bool = False,
    symmetries: bool = False,
) -> Task:
    """Return the task of predicting the increments between the states of `y` [S, N, T, C], each on the nodes it has.

    A training sample is a part at one of its steps; a part of few steps shows each of them more often. The loss is the
    mean squared error of the increments of the nodes that are there after the step, whatever their share of the part,
    and the mean over parts. `noise` is the standard deviation of Gaussian noise on the fields that the model sees, from
    which the target leads back. With `fill_new_layer` new nodes begin with the fields of the nearest node below them.
    `symmetries` turns and mirrors parts at random in every step.

    Evaluation marches from the states before step `first`, which are true, feeding predictions, or with
    `teacher_forced` the true state before every step. Metrics count the nodes that are there, at predicted steps.
    Raises UserError for bad options.
    """
    steps = len(dataset.times)
    if not noise >= 0:
        raise UserError(f"task.noise={noise} must not be negative; 0 adds none")
    if not 1 <= first < steps:
        raise UserError(
            f"task.first={first}, but {dataset.name} has states 0 to {steps - 1}, the first of which is given; choose "
            f"from 1 to {steps - 1}"
        )
    call = ModelCall(apply, call_inputs, dataset.space_dim)

    def increment(params: Params, batch: Batch, state: Array, there: Array, key: Array | None) -> Float[Array, "B N C"]:
        """Return the increment of the nodes that are there, 0 for all others."""
        given = {"features": state, "edges": batch.get("edges"), "key": key}
        return jnp.where(there[..., None], call(params, batch["x"], there, **given), 0.0)

    def loss_of_step(params: Params, batch: Batch, key: Array) -> Array:
        if symmetries:
            number = random_symmetries(jax.random.fold_in(key, 2), batch["x"].shape[0])
            batch = {**batch, "x": turned(batch["x"], number)}
        step = batch["window"] % (batch["steps"] - 1)
        now, after = (frame_at(batch["y"], step + later) for later in (0, 1))
        there = nodes_at(batch, step + 1)
        if fill_new_layer:
            now = filled(now, batch, step + 1)
        if noise:
            drawn = noise * jax.random.normal(jax.random.fold_in(key, 1), now.shape)
            now += jnp.where(there[..., None], drawn, 0.0)
        return losses.mean_squared_error(increment(params, batch, now, there, key), after - now, there)

    def marching(forced: bool) -> Callable[[Params, Batch, Array | None], Array]:
        def predict(params: Params, batch: Batch, key: Array | None) -> Array:
            return march(
                lambda state, there: increment(params, batch, state, there, key),
                batch,
                first=first,
                fill_new_layer=fill_new_layer,
                teacher_forced=forced,
            )

        return predict

    fields = list(dataset.channels.targets)
    found = case_metrics(fields, dataset.channels.scales, first)
    return Task(
        **task_arrays(dataset, points_multiple),
        predict=marching(teacher_forced),
        loss=Loss.per_sample(loss_of_step),
        metrics=found,
        headline="rel_l2",
        frame_metrics=step_metrics(fields, dataset.channels.scales, first),
        # How far its own predictions lead a march astray.
        other_predictions={} if teacher_forced else {"teacher_forced": marching(True)},
        windows=steps - 1,
    )


def march(
    step: Step, batch: Batch, *, first: int, fill_new_layer: bool = False, teacher_forced: bool = False
) -> Float[Array, "B N T C"]:
    """Return all states of a part: true before step `first`, then each from the state before by `step`.

    `step(state, there)` returns the increment [B, N, C] of the nodes `there` [B, N]. `batch` has the true states `y`
    [B, N, T, C], the step `layer` [B, N] from which a node is there, and with `fill_new_layer` the node `below` [B, N]
    whose fields a new one begins with. With `teacher_forced` the state before is always the true one.
    """
    truths = jnp.moveaxis(batch["y"], 2, 0)

    def advance(state: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        number, truth = inputs
        there = nodes_at(batch, number)
        given = filled(state, batch, number) if fill_new_layer else state
        change = jnp.where(there[..., None], step(given, there), 0.0)
        predicted = jnp.clip(given + change, -_FARTHEST, _FARTHEST)
        predicted = jnp.where(number < first, truth, predicted)
        return truth if teacher_forced else predicted, predicted

    numbers = jnp.arange(1, len(truths))
    _, predicted = jax.lax.scan(advance, truths[0], (numbers, truths[1:]))
    return jnp.moveaxis(jnp.concatenate([truths[:1], predicted]), 0, 2)


def nodes_at(batch: Batch, step: Array | int) -> Bool[Array, "B N"]:
    """Return which nodes of each part are there at a step, one number or one for each part."""
    there = batch["layer"] <= (step if jnp.ndim(step) == 0 else step[:, None])
    return there & batch["mask"] if "mask" in batch else there


def filled(
    state: Float[Array, "B N C"], batch: Batch, step: Int[Array, " B"] | Int[Array, ""]
) -> Float[Array, "B N C"]:
    """Return a state with the fields of the node below at the nodes that `step` adds."""
    new = batch["layer"] == (step if jnp.ndim(step) == 0 else step[:, None])
    below = jnp.take_along_axis(state, batch["below"][..., None], axis=1)
    return jnp.where(new[..., None], below, state)

"""What training, resuming and evaluating a run share, assembled from its configuration."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
import optax
from jax import Array

from experiments.errors import UserError
from experiments.training.evaluate import PerCase, make_evaluator, make_predictor
from experiments.training.initial import frozen_names
from experiments.training.mesh import Mesh
from experiments.training.optimizers import build_optimizer, build_packing, scheduled_options
from experiments.training.packing import Packing, Params
from experiments.training.plan import Plan, make_plan
from experiments.training.sampling import bucket_lengths
from experiments.training.schedules import Schedule, build_schedules, compiled
from experiments.training.state import TrainState, create_state
from experiments.training.task import Task

Evaluate = Callable[[Params, Mapping[str, Array]], PerCase]


@dataclass(frozen=True)
class Setup:
    """Everything that training, resuming and evaluating one run share.

    `schedules` are those of the optimizer's options that change from step to step.
    `template` is the state of `seed` before the first step; training donates its arrays, after which only shapes are
    left, as where it was built from the shapes of parameters. All else is that of every seed, above all what is
    compiled: `evaluate` gives the metrics of every sample, `evaluate_frames` those of every frame, `evaluate_others`
    both of each other prediction of the task, and `predict` is that of one sample (`make_predictor`).
    """

    task: Task
    plan: Plan
    packing: Packing
    optimizer: optax.GradientTransformation
    schedules: Mapping[str, Schedule]
    mesh: Mesh
    seed: int
    template: TrainState
    evaluate: Evaluate
    evaluate_frames: Evaluate
    evaluate_others: Mapping[str, Evaluate]
    predict: Callable[[Params, Mapping[str, Array], int], np.ndarray]
    eval_batch_size: int

    def for_seed(self, params: Params, seed: int) -> "Setup":
        """Return the same set-up for another seed, whose initial parameters are `params`."""
        state = create_state(params, self.packing, self.optimizer, seed, ema=bool(self.template.ema))
        return replace(self, seed=seed, template=self.mesh.replicate(state))

    def scheduled(self, step: int) -> dict[str, float]:
        """Return what the schedules give optimizer step `step`, by name."""
        values = compiled(*self.schedules.values())(step)
        return {name: float(value) for name, value in zip(self.schedules, values, strict=True)}

    def weights(self, state: TrainState) -> dict[str, Params]:
        """Return the parameter sets that are evaluated: raw, and ema where an average is kept.

        They are cut on the host: to compile the many cuts takes longer than all evaluations of most runs.
        """
        packed = {"raw": state.params, "ema": state.ema}
        return {
            # Copied: on a CPU what is fetched is the state itself, which the next step may write into.
            name: self.mesh.replicate(self.packing.unpack(jax.tree.map(np.array, vectors)))
            for name, vectors in packed.items()
            if vectors
        }


def build_setup(
    task: Task, params: Params, config: Any, seed: int, mesh: Mesh, matrices: Collection[str] = ()
) -> Setup:
    """Assemble a run of `config` from initial `params`; raises UserError for options that do not fit.

    Without training their shapes will do.
    `matrices` names the parameters that are the matrix of a linear map (`flare_jax.params.matrix_names`), for Muon.
    """
    train = config.train
    if train.batch_size % mesh.data:
        raise UserError(
            f"train.batch_size={train.batch_size} does not split over mesh.data={mesh.data} devices; "
            "make it a multiple or lower mesh.data"
        )
    if task.loss.empty is not None and train.accumulation > 1:
        raise UserError(
            f"train.accumulation={train.accumulation} does not go with a task that makes {task.loss.repeats} steps on "
            "every batch; set train.accumulation=1"
        )
    plan = make_plan(config, bucket_lengths(task, train.batch_size * train.accumulation), task.loss.repeats)
    packing = build_packing(config.optimizer.name, params, matrices, frozen_names(train.freeze, params))
    schedules = scheduled_options(config.optimizer, *_schedules(config, plan, task))
    optimizer = build_optimizer(config.optimizer, train.clip_norm, schedules, packing)
    state = create_state(params, packing, optimizer, seed, ema=train.ema_decay > 0)
    eval_batch = mesh.whole_batch(config.eval.batch_size)

    def evaluator(**changes: Any) -> Evaluate:
        return make_evaluator(replace(task, **changes), eval_batch, mesh)

    of_others = {task.headline: task.metrics[task.headline], **by_frame(task.frame_metrics)}
    return Setup(
        task=task,
        plan=plan,
        packing=packing,
        optimizer=optimizer,
        schedules=schedules,
        mesh=mesh,
        seed=seed,
        template=mesh.replicate(state),
        evaluate=evaluator(),
        evaluate_frames=evaluator(metrics=task.frame_metrics),
        evaluate_others={
            name: evaluator(predict=predict, metrics=of_others) for name, predict in task.other_predictions.items()
        },
        predict=make_predictor(task, mesh),
        eval_batch_size=eval_batch,
    )


def by_frame(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return metrics of frames under names that no metric of whole samples has."""
    return {f"{name}_by_frame": value for name, value in metrics.items()}


def _schedules(config: Any, plan: Plan, task: Task) -> tuple[Schedule, Schedule | None]:
    """Return learning rate and, where it is scheduled, beta1 as functions of the optimizer step."""
    slower = task.loss.repeats if task.loss.schedule_by_batch else 1
    period = plan.steps_per_epoch // slower if config.train.epochs else 1
    schedules = build_schedules(config.schedule, config.optimizer.learning_rate, plan.steps // slower, period)
    if slower > 1:
        schedules = [schedule and (lambda step, schedule=schedule: schedule(step // slower)) for schedule in schedules]
    return tuple(schedules)

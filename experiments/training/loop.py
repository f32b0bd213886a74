"""The training loop: restore, run chunks of an epoch on the device, log, evaluate, checkpoint."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from experiments.errors import UserError
from experiments.training import hosts
from experiments.training.checkpoints import Checkpoints
from experiments.training.evaluate import PerCase, make_evaluator
from experiments.training.mesh import Mesh
from experiments.training.optimizers import build_optimizer, build_packing
from experiments.training.packing import Packing, Params
from experiments.training.plan import Plan, make_plan
from experiments.training.records import Console, MetricsLog
from experiments.training.schedules import Schedule, build_schedules
from experiments.training.state import TrainState, create_state
from experiments.training.step import make_chunk, make_step
from experiments.training.task import Task


@dataclass(frozen=True)
class Setup:
    """Everything that training, resuming and evaluating one run share.

    `template` is the state before the first step; training donates its arrays, after which only shapes are left.
    """

    task: Task
    plan: Plan
    packing: Packing
    optimizer: optax.GradientTransformation
    learning_rate: Schedule
    beta1: Schedule | None
    mesh: Mesh
    template: TrainState
    evaluate: Callable[[Params, Mapping[str, Array]], PerCase]

    def weights(self, state: TrainState) -> dict[str, Params]:
        """Return the parameter sets that are evaluated: raw, and ema where an average is kept."""
        sets = {"raw": self.packing.unpack(state.params)}
        return {**sets, "ema": self.packing.unpack(state.ema)} if state.ema else sets


def build_setup(task: Task, params: Params, config: Any, seed: int, mesh: Mesh) -> Setup:
    """Assemble a run of `config` from initial `params`; raises UserError for options that do not fit."""
    train = config.train
    if train.batch_size % mesh.data:
        raise UserError(
            f"train.batch_size={train.batch_size} does not split over mesh.data={mesh.data} devices; "
            "make it a multiple or lower mesh.data"
        )
    plan = make_plan(config, task.num_train)
    packing = build_packing(config.optimizer.name, params)
    learning_rate, beta1 = build_schedules(
        config.schedule, config.optimizer.learning_rate, plan.steps, plan.steps_per_epoch
    )
    optimizer = build_optimizer(config.optimizer, train.clip_norm, learning_rate, beta1, packing)
    state = create_state(params, packing, optimizer, seed, ema=train.ema_decay > 0)
    eval_batch = -(-config.eval.batch_size // mesh.data) * mesh.data
    return Setup(
        task=task,
        plan=plan,
        packing=packing,
        optimizer=optimizer,
        learning_rate=learning_rate,
        beta1=beta1,
        mesh=mesh,
        template=mesh.replicate(state),
        evaluate=make_evaluator(task, eval_batch, mesh),
    )


def open_checkpoints(setup: Setup, config: Any, workdir: Path, read_only: bool = False) -> Checkpoints:
    """Open the checkpoints of the run in `workdir`."""
    return Checkpoints(
        workdir / "checkpoints",
        setup.packing,
        keep_last=config.checkpoint.keep_last,
        keep_best=config.checkpoint.keep_best,
        metric=setup.task.headline,
        config=config.to_dict(),
        read_only=read_only,
    )


def train(setup: Setup, config: Any, workdir: Path, quiet: bool = False) -> TrainState:
    """Train to the end of the plan, resuming from the newest readable checkpoint; return the final state.

    Raises UserError when the loss stops being finite or a checkpoint cannot be written; what was saved before stays.
    """
    checkpoints = open_checkpoints(setup, config, workdir)
    restored = checkpoints.restore_latest(setup.template, hosts.say)
    state = setup.template if restored is None else setup.mesh.replicate(restored)
    start = int(state.step)
    with hosts.main_first("unreadable checkpoints"):
        checkpoints.drop_after(start)
    log = MetricsLog(workdir / "metrics.jsonl" if hosts.is_main() else None, start)
    console = Console(setup.plan.steps, start, quiet or not hosts.is_main())
    if start == setup.plan.steps:
        console.say(f"all {start} steps are done already")
    elif restored is not None:
        console.say(f"resuming from step {start} of {setup.plan.steps}")
    try:
        state = _run(setup, config, state, checkpoints, log, console)
        checkpoints.wait()
    finally:
        console.stop()
        checkpoints.close()
    return state


def _run(
    setup: Setup, config: Any, state: TrainState, checkpoints: Checkpoints, log: MetricsLog, console: Console
) -> TrainState:
    plan, task = setup.plan, setup.task
    chunk = ChunkRunner(setup, config)
    test = setup.mesh.place_dataset(task.tests["test"])
    step, headline = int(state.step), math.nan
    if step == 0:
        checkpoints.save(state, 0, None)
    while step < plan.steps:
        stop = plan.next_stop(step)
        state, values, seconds = chunk(state, step, stop)
        _stop_if_not_finite(values, step, checkpoints, config)
        step = stop
        record = _train_record(setup, values, step, seconds)
        log.write("train", step, record)
        metrics = None
        if plan.evaluates(step):
            metrics = {
                f"test/{name}_{weights}": float(np.mean(value))
                for weights, params in setup.weights(state).items()
                for name, value in setup.evaluate(params, test).items()
            }
            headline = metrics[f"test/{task.headline}_{config.eval.weights}"]
            log.write("eval", step, {"epoch": record["epoch"], **metrics})
        if plan.saves(step):
            checkpoints.save(state, step, None if metrics is None else {task.headline: headline})
        console.advance(step, _progress_text(record, task.headline, headline))
    if chunk.timings:
        log.write("timing", step, chunk.timing())
        console.say(chunk.describe())
    return state


class ChunkRunner:
    """Compiles each chunk length once, runs chunks and keeps their times apart from compilation."""

    def __init__(self, setup: Setup, config: Any) -> None:
        self._setup = setup
        self._data = setup.mesh.place_dataset(setup.task.train)
        step = make_step(setup.task, setup.optimizer, setup.packing, config.train.ema_decay)
        self._batch = config.train.batch_size * config.train.accumulation
        self._chunk = make_chunk(
            step,
            num_train=setup.task.num_train,
            batch_size=config.train.batch_size,
            accumulation=config.train.accumulation,
            mesh=setup.mesh,
        )
        self._compiled: dict[int, Callable[..., Any]] = {}
        self.compile_seconds = 0.0
        self.timings: list[tuple[int, float]] = []

    def __call__(self, state: TrainState, step: int, stop: int) -> tuple[TrainState, dict[str, np.ndarray], float]:
        """Run steps `step` … `stop` − 1; return the state, the metrics of each step and the seconds taken."""
        epoch, first = divmod(step, self._setup.plan.steps_per_epoch)
        arguments = (state, self._data, jnp.int32(epoch), jnp.int32(first))
        length = stop - step
        if length not in self._compiled:
            begin = time.perf_counter()
            self._compiled[length] = self._chunk.lower(*arguments, length=length).compile()
            self.compile_seconds += time.perf_counter() - begin
        begin = time.perf_counter()
        state, metrics = self._compiled[length](*arguments)
        values = jax.device_get(metrics)
        seconds = time.perf_counter() - begin
        self.timings.append((length, seconds))
        return state, values, seconds

    def timing(self) -> dict[str, float]:
        """Return the median step time, the throughput, and the time spent in steps and in compilation."""
        step_seconds = float(np.median([seconds / length for length, seconds in self.timings]))
        return {
            "step_ms": 1e3 * step_seconds,
            "points_per_s": self._batch * self._setup.task.points_per_sample / step_seconds,
            "steps_s": sum(seconds for _, seconds in self.timings),
            "compile_s": self.compile_seconds,
        }

    def describe(self) -> str:
        """Return `timing` as one line."""
        values = self.timing()
        return (
            f"steps: {values['step_ms']:.2f} ms each (median), {values['points_per_s']:.3g} points/s, "
            f"{values['steps_s']:.0f} s in all, compilation {values['compile_s']:.0f} s"
        )


def _train_record(setup: Setup, values: dict[str, np.ndarray], step: int, seconds: float) -> dict[str, float]:
    """Return what is logged of one chunk: means over its steps, and the schedule's values at its last step."""
    record = {
        "epoch": step / setup.plan.steps_per_epoch,
        "loss": float(np.mean(values["loss"])),
        "grad_norm": float(np.mean(values["grad_norm"])),
        "learning_rate": float(setup.learning_rate(step - 1)),
        "step_ms": 1e3 * seconds / len(values["loss"]),
    }
    if setup.beta1 is not None:
        record["beta1"] = float(setup.beta1(step - 1))
    return record


def _progress_text(record: dict[str, float], metric: str, headline: float) -> str:
    test = "" if math.isnan(headline) else f"  test {metric} {headline:.4g}"
    return (
        f"epoch {record['epoch']:.4g}  loss {record['loss']:.4g}{test}  "
        f"lr {record['learning_rate']:.2e}  {record['step_ms']:.2f} ms/step"
    )


def _stop_if_not_finite(values: dict[str, np.ndarray], step: int, checkpoints: Checkpoints, config: Any) -> None:
    bad = ~(np.isfinite(values["loss"]) & np.isfinite(values["grad_norm"]))
    if not bad.any():
        return
    checkpoints.wait()
    raise UserError(
        f"the loss or its gradient became NaN or infinite at step {step + int(np.argmax(bad))}; the checkpoint of step "
        f"{checkpoints.steps()[-1]} is kept; lower optimizer.learning_rate={config.optimizer.learning_rate:g} or "
        f"train.clip_norm={config.train.clip_norm:g} and start in another workdir"
    )

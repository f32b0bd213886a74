"""The training loop: restore, run chunks of an epoch on the device, log, evaluate, checkpoint."""

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from data_pipeline.streaming.rows import is_stored
from experiments.errors import UserError
from experiments.training import hosts
from experiments.training.checkpoints import Checkpoints, SavedCheckpoints
from experiments.training.evaluate import PerCase, make_evaluator
from experiments.training.mesh import Mesh
from experiments.training.optimizers import build_optimizer, build_packing
from experiments.training.packing import Packing, Params
from experiments.training.plan import Plan, make_plan
from experiments.training.records import Console, MetricsLog
from experiments.training.sampling import Epochs, bucket_lengths, buckets_of
from experiments.training.schedules import Schedule, build_schedules
from experiments.training.state import TrainState, create_state
from experiments.training.step import make_chunk, make_step
from experiments.training.streaming import StreamRunner
from experiments.training.task import Task, summarize_per_case
from experiments.training.timing import describe_timing, timing
from runtime import signals


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
    eval_batch_size: int

    def weights(self, state: TrainState) -> dict[str, Params]:
        """Return the parameter sets that are evaluated: raw, and ema where an average is kept."""
        sets = {"raw": self.packing.unpack(state.params)}
        return {**sets, "ema": self.packing.unpack(state.ema)} if state.ema else sets


def build_setup(
    task: Task, params: Params, config: Any, seed: int, mesh: Mesh, matrices: Collection[str] = ()
) -> Setup:
    """Assemble a run of `config` from initial `params`; raises UserError for options that do not fit.

    `matrices` names the parameters that are the matrix of a linear map (`flare_jax.params.matrix_names`), for Muon.
    """
    train = config.train
    if train.batch_size % mesh.data:
        raise UserError(
            f"train.batch_size={train.batch_size} does not split over mesh.data={mesh.data} devices; "
            "make it a multiple or lower mesh.data"
        )
    if task.recurrence is not None and train.accumulation > 1:
        raise UserError(
            f"train.accumulation={train.accumulation} does not go with a task that makes {task.repeats} steps on every "
            "batch; set train.accumulation=1"
        )
    plan = make_plan(config, bucket_lengths(task, train.batch_size * train.accumulation), task.repeats)
    packing = build_packing(config.optimizer.name, params, matrices)
    learning_rate, beta1 = _schedules(config, plan, task)
    optimizer = build_optimizer(config.optimizer, train.clip_norm, learning_rate, beta1, packing)
    state = create_state(params, packing, optimizer, seed, ema=train.ema_decay > 0)
    eval_batch = mesh.whole_batch(config.eval.batch_size)
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
        eval_batch_size=eval_batch,
    )


def _schedules(config: Any, plan: Plan, task: Task) -> tuple[Schedule, Schedule | None]:
    """Return learning rate and beta1 as functions of the optimizer step."""
    slower = task.repeats if task.recurrence is not None and task.recurrence.schedule_by_batch else 1
    period = plan.steps_per_epoch // slower if config.train.epochs else 1
    schedules = build_schedules(config.schedule, config.optimizer.learning_rate, plan.steps // slower, period)
    if slower == 1:
        return schedules
    return tuple(schedule and (lambda step, schedule=schedule: schedule(step // slower)) for schedule in schedules)


def saved_checkpoints(setup: Setup, workdir: Path) -> SavedCheckpoints:
    """Return the checkpoints of the run in `workdir` for reading."""
    return SavedCheckpoints(workdir / "checkpoints", setup.packing)


def open_checkpoints(setup: Setup, config: Any, workdir: Path) -> Checkpoints:
    """Open the checkpoints of the run in `workdir` for writing."""
    return Checkpoints(
        workdir / "checkpoints",
        setup.packing,
        keep_last=config.checkpoint.keep_last,
        keep_best=config.checkpoint.keep_best,
        metric=setup.task.headline,
        higher_is_better=setup.task.higher_is_better,
        config=config.to_dict(),
    )


def train(setup: Setup, config: Any, workdir: Path, quiet: bool = False) -> TrainState:
    """Train to the end of the plan, resuming from the newest readable checkpoint; return the final state.

    Raises UserError when the loss or the state stops being finite or a checkpoint cannot be written, and Interrupted,
    after a checkpoint of the steps that are done, when a signal asks the program to end; what was saved before stays.
    """
    with signals.protected():
        checkpoints = open_checkpoints(setup, config, workdir)
        restored = checkpoints.restore_latest(setup.template, hosts.say)
        state = setup.template if restored is None else setup.mesh.replicate(restored)
        start = int(state.step)
        with hosts.main_first("unreadable checkpoints"):
            checkpoints.drop_after(start)
        checkpoints.prune()
        log = MetricsLog(workdir / "metrics.jsonl" if hosts.is_main() else None, start, hosts.say)
        console = Console(setup.plan.steps, start, quiet or not hosts.is_main())
        if start == setup.plan.steps:
            console.say(f"all {start} steps are done already")
        elif restored is not None:
            console.say(f"resuming from step {start} of {setup.plan.steps}")
        runner = StreamRunner(setup, config) if is_stored(setup.task.train) else ChunkRunner(setup, config)
        try:
            state = _run(setup, config, state, runner, checkpoints, log, console)
            checkpoints.wait()
        finally:
            runner.close()
            console.stop()
            checkpoints.close()
    return state


def _run(
    setup: Setup,
    config: Any,
    state: TrainState,
    chunk: "ChunkRunner | StreamRunner",
    checkpoints: Checkpoints,
    log: MetricsLog,
    console: Console,
) -> TrainState:
    plan, task = setup.plan, setup.task
    test = setup.mesh.place_dataset(task.tests[task.selection])
    step, headline = int(state.step), math.nan
    if step == 0:
        checkpoints.save(state, 0, None)
    saved = True
    while step < plan.steps:
        stop = plan.next_stop(step)
        _end_if_asked(state, step, saved, checkpoints)
        if chunk.prepare(state, step, stop):
            _end_if_asked(state, step, saved, checkpoints)
        state, values, seconds = chunk(state, step, stop)
        _stop_if_not_finite(values, step, checkpoints, config)
        step = stop
        record = _train_record(setup, values, step, seconds)
        log.write("train", step, record)
        metrics = None
        if plan.evaluates(step):
            metrics = {
                f"{task.selection}/{name}_{weights}": value
                for weights, params in setup.weights(state).items()
                for name, value in summarize_per_case(setup.evaluate(params, test), task.weighted_by).items()
            }
            headline = metrics[f"{task.selection}/{task.headline}_{config.eval.weights}"]
            log.write("eval", step, {"epoch": record["epoch"], **metrics})
        saved = plan.saves(step)
        if saved:
            checkpoints.save(state, step, None if metrics is None else {task.headline: headline})
        console.advance(step, _progress_text(record, f"{task.selection} {task.headline}", headline))
    if chunk.timings:
        log.write("timing", step, chunk.timing())
        console.say(chunk.describe())
    return state


def _end_if_asked(state: TrainState, step: int, saved: bool, checkpoints: Checkpoints) -> None:
    """Raise Interrupted, with everything on disk, where a signal asked any process of the run to end."""
    number = hosts.largest(signals.requested())
    if not number:
        return
    if not saved:
        checkpoints.save(state, step, None, interim=True)
    checkpoints.wait()
    hosts.say(f"stopped after step {step}")
    raise signals.Interrupted(number)


class ChunkRunner:
    """Compiles each chunk length once, runs chunks and keeps their times apart from compilation."""

    def __init__(self, setup: Setup, config: Any) -> None:
        self._setup = setup
        task = setup.task
        train = config.train
        self._batch = train.batch_size * train.accumulation
        buckets = buckets_of(task, self._batch)
        self._data = tuple(setup.mesh.place_dataset(bucket.cut(task.train)) for bucket in buckets)
        step = make_step(setup.task, setup.optimizer, setup.packing, train.ema_decay)
        epochs = Epochs(bucket_lengths(task, self._batch), train.batch_size, train.accumulation, task.windows)
        self._chunk = make_chunk(step, epochs=epochs, repeats=task.repeats, mesh=setup.mesh)
        self._compiled: dict[int, Callable[..., Any]] = {}
        self.compile_seconds = 0.0
        self.timings: list[tuple[int, float]] = []

    def prepare(self, state: TrainState, step: int, stop: int) -> bool:
        """Compile what steps `step` … `stop` − 1 need; return whether there was anything to compile."""
        length = stop - step
        if length in self._compiled:
            return False
        begin = time.perf_counter()
        self._compiled[length] = self._chunk.lower(*self._arguments(state, step), length=length).compile()
        self.compile_seconds += time.perf_counter() - begin
        return True

    def __call__(self, state: TrainState, step: int, stop: int) -> tuple[TrainState, dict[str, np.ndarray], float]:
        """Run steps `step` … `stop` − 1; return the state, the metrics of each step and the seconds taken."""
        length = stop - step
        self.prepare(state, step, stop)
        begin = time.perf_counter()
        state, metrics = self._compiled[length](*self._arguments(state, step))
        values = jax.device_get(metrics)
        seconds = time.perf_counter() - begin
        self.timings.append((length, seconds))
        return state, values, seconds

    def _arguments(self, state: TrainState, step: int) -> tuple[Any, ...]:
        epoch, first = divmod(step, self._setup.plan.steps_per_epoch)
        return state, self._data, jnp.int32(epoch), jnp.int32(first)

    def timing(self) -> dict[str, float]:
        """Return the median step time, the throughput, and the time spent in steps and in compilation."""
        return timing(self.timings, self._batch * self._setup.task.points_per_sample, self.compile_seconds)

    def close(self) -> None:
        """Release nothing: the data stay on the device as long as the runner."""

    def temporary_bytes(self) -> int | None:
        """Return the temporary memory of the largest chunk as its compiler plans it, None where it does not say."""
        plans = [compiled.memory_analysis() for compiled in self._compiled.values()]
        return max((plan.temp_size_in_bytes for plan in plans if plan is not None), default=None)

    def describe(self) -> str:
        """Return `timing` as one line."""
        return describe_timing(self.timing())


def _train_record(setup: Setup, values: dict[str, np.ndarray], step: int, seconds: float) -> dict[str, float]:
    """Return what is logged of one chunk: means over its steps, and the schedule's values at its last step."""
    record = {
        "epoch": step / setup.plan.steps_per_epoch,
        "loss": float(np.mean(values["loss"])),
        "grad_norm": float(np.mean(values["grad_norm"])),
        "learning_rate": float(setup.learning_rate(step - 1)),
        "step_ms": 1e3 * seconds / len(values["loss"]),
    }
    if "input_wait_s" in values:
        record["input_wait_percent"] = 100 * float(values["input_wait_s"]) / seconds
    if setup.beta1 is not None:
        record["beta1"] = float(setup.beta1(step - 1))
    return record


def _progress_text(record: dict[str, float], metric: str, headline: float) -> str:
    test = "" if math.isnan(headline) else f"  {metric} {headline:.4g}"
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

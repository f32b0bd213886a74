"""The training loop: restore, run chunks of an epoch on the device, log, evaluate, checkpoint."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.errors import UserError
from experiments.training import hosts
from experiments.training.checkpoints import Checkpoints, SavedCheckpoints
from experiments.training.costs import costs, describe
from experiments.training.records import Console, MetricsLog
from experiments.training.setup import Setup
from experiments.training.source import Source, open_source
from experiments.training.state import TrainState
from experiments.training.task import summarize_per_case
from experiments.training.trackers import Tracker
from runtime import signals


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


def train(
    setup: Setup, config: Any, workdir: Path, quiet: bool = False, trackers: Sequence[Tracker] = ()
) -> TrainState:
    """Train to the end of the plan, resuming from the newest readable checkpoint; return the final state.

    `trackers` are given the run's log, and closed.

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
        log = MetricsLog(workdir / "metrics.jsonl" if hosts.is_main() else None, start, hosts.say, trackers)
        console = Console(setup.plan.steps, start, quiet or not hosts.is_main())
        if start == setup.plan.steps:
            console.say(f"all {start} steps are done already")
        elif restored is not None:
            console.say(f"resuming from step {start} of {setup.plan.steps}")
        source = open_source(setup, config)
        try:
            state = _run(setup, config, state, source, checkpoints, log, console)
            checkpoints.wait()
        finally:
            source.close()
            console.stop()
            log.close()
            checkpoints.close()
    return state


def _run(
    setup: Setup,
    config: Any,
    state: TrainState,
    source: Source,
    checkpoints: Checkpoints,
    log: MetricsLog,
    console: Console,
) -> TrainState:
    plan, task = setup.plan, setup.task
    test = {task.selection: setup.mesh.place_dataset(task.tests[task.selection])}
    both = {**test, "train": setup.mesh.place_dataset(_first_training_samples(setup))}
    step, headline = int(state.step), math.nan
    if step == 0:
        checkpoints.save(state, 0, None)
        log.write("eval", 0, {"epoch": 0.0, **_errors(setup, state, both)})
    saved = True
    while step < plan.steps:
        stop = plan.next_stop(step)
        _end_if_asked(state, step, saved, checkpoints)
        if source.prepare(state, step, stop):
            _end_if_asked(state, step, saved, checkpoints)
        state, values, seconds = source(state, step, stop)
        _stop_if_not_finite(values, step, checkpoints, config)
        step = stop
        record = _train_record(setup, values, step, seconds)
        log.write("train", step, record)
        metrics = None
        if plan.evaluates(step):
            metrics = _errors(setup, state, both if plan.evaluates_training(step) else test)
            headline = metrics[f"{task.selection}/{task.headline}_{config.eval.weights}"]
            log.write("eval", step, {"epoch": record["epoch"], **metrics})
        if step == plan.steps:
            # Before the last checkpoint, behind which nothing is done again.
            log.write("timing", step, costs(setup, source))
        saved = plan.saves(step)
        if saved:
            checkpoints.save(state, step, None if metrics is None else {task.headline: headline})
        console.advance(step, _progress_text(record, f"{task.selection} {task.headline}", headline))
    if source.timings:
        console.say(f"{source.describe()}\n{describe(costs(setup, source))}")
    return state


def _first_training_samples(setup: Setup) -> dict[str, Any]:
    """Return as many samples of the training set as the test has, on which its error is followed."""
    task = setup.task
    count = len(next(iter(task.tests[task.selection].values())))
    return {name: value[:count] for name, value in task.train.items()}


def _errors(setup: Setup, state: TrainState, splits: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of all weights on the splits, means over their samples."""
    return {
        f"{split}/{name}_{weights}": value
        for split, data in splits.items()
        for weights, params in setup.weights(state).items()
        for name, value in summarize_per_case(setup.evaluate(params, data), setup.task.weighted_by).items()
    }


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

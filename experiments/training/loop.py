"""The training loop: restore, run chunks of an epoch on the device, log, evaluate, checkpoint.

Seeds that are trained together are at the same step, except that one may have ended early, and that after an
interruption some may have saved a later step than others: those wait until the others have caught up.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from experiments.errors import NotFiniteError
from experiments.training import hosts
from experiments.training.costs import costs, describe
from experiments.training.records import Console
from experiments.training.seed_run import SeedRun, SeedStates
from experiments.training.setup import Setup
from experiments.training.source import Source, open_source
from experiments.training.state import TrainState
from experiments.training.task import summarize_per_case
from experiments.training.trackers import Tracker
from runtime import signals

Outcome = TrainState | NotFiniteError


def train(
    setup: Setup, config: Any, workdir: Path, quiet: bool = False, trackers: Sequence[Tracker] = ()
) -> TrainState:
    """Train to the end of the plan, resuming from the newest readable checkpoint; return the final state.

    `trackers` are given the run's log, and closed.

    Raises UserError when the loss or the state stops being finite or a checkpoint cannot be written, and Interrupted,
    after a checkpoint of the steps that are done, when a signal asks the program to end; what was saved before stays.
    """
    source = open_source(setup, config)
    (outcome,) = train_together([setup], config, [workdir], source, quiet=quiet, trackers=[trackers])
    if isinstance(outcome, NotFiniteError):
        raise outcome
    return outcome


def train_together(
    setups: Sequence[Setup],
    config: Any,
    workdirs: Sequence[Path],
    source: Source,
    *,
    places: int = 1,
    quiet: bool = False,
    trackers: Sequence[Sequence[Tracker]] = (),
) -> list[Outcome]:
    """Train the seeds of `setups` in one program, each in its folder and as `train` does it alone.

    `source` has `places` for seeds, at least as many as there are; it is closed at the end. A seed whose loss or state
    stops being finite ends, and is said to; the others go on. `trackers` are those of each seed, where there are any.
    Returns the final state, or why there is none, of each.
    """
    with signals.protected(), ExitStack() as stack:
        stack.callback(source.close)
        runs = []
        for setup, workdir, own in zip(setups, workdirs, trackers or [()] * len(setups), strict=True):
            runs.append(SeedRun(setup, config, workdir, own))
            stack.enter_context(closing(runs[-1]))
        console = Console(setups[0].plan.steps, min(run.start for run in runs), quiet or not hosts.is_main())
        stack.callback(console.stop)
        for run in runs:
            if text := run.describe_start():
                console.say(_of_seed(run, runs, text))
        states = SeedStates([run.initial for run in runs], places, setups[0].mesh)
        _run(runs, states, config, source, console)
        for run in runs:
            run.checkpoints.wait()
        return [run.failure or states.of(place) for place, run in enumerate(runs)]


def _run(runs: Sequence[SeedRun], states: SeedStates, config: Any, source: Source, console: Console) -> None:
    setup = runs[0].setup
    plan, task = setup.plan, setup.task
    together = {"parallel_seeds": len(runs)} if len(runs) > 1 else {}
    data = {
        task.selection: setup.mesh.place_dataset(task.tests[task.selection]),
        "train": setup.mesh.place_dataset(_first_training_samples(setup)),
    }
    for place, run in enumerate(runs):
        if run.step == 0:
            state = states.of(place)
            run.save(state, None)
            run.log.write("eval", 0, {"epoch": 0.0, **_errors(setup, state, data)})
    while unfinished := [run for run in runs if run.unfinished]:
        step = min(run.step for run in unfinished)
        stop = plan.next_stop(step)
        now = {place: run for place, run in enumerate(runs) if run.unfinished and run.step == step}
        _end_if_asked(runs, states)
        if source.prepare(states.joined, step, stop):
            _end_if_asked(runs, states)
        active = [place in now for place in range(states.places)]
        states.joined, values, seconds = source(states.joined, step, stop, active)
        record = _shared_record(setup, values, stop, stop - step, seconds)
        costs_of_all = costs(setup, source) | together if stop == plan.steps else None
        for place, run in now.items():
            with _ending(run, runs):
                _advance(run, place, states, _of_place(values, place, states.places), record, costs_of_all, data)
        console.advance(stop, _progress_text(list(now.values()), record))
    if source.timings:
        console.say(f"{source.describe()}\n{describe(costs(setup, source))}")


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


def _advance(
    run: SeedRun,
    place: int,
    states: SeedStates,
    values: dict[str, np.ndarray],
    shared: dict[str, float],
    costs_of_all: dict[str, Any] | None,
    data: Mapping[str, Any],
) -> None:
    """Log what a chunk of steps did for one seed, evaluate on `data` and save where the plan says so."""
    setup, config, task, plan = run.setup, run.config, run.setup.task, run.setup.plan
    run.diagnostics.write(values, run.step)
    run.check_finite(values, run.step)
    run.step, run.saved = run.step + len(values["loss"]), False
    run.loss = float(np.mean(values["loss"]))
    own = {"loss": run.loss, "grad_norm": float(np.mean(values["grad_norm"]))}
    run.log.write("train", run.step, {"epoch": shared["epoch"], **own, **shared})
    if not plan.saves(run.step):
        return
    state, metrics = states.of(place), None
    if plan.evaluates(run.step):
        splits = data if plan.evaluates_training(run.step) else {task.selection: data[task.selection]}
        metrics = _errors(setup, state, splits)
        run.headline = metrics[f"{task.selection}/{task.headline}_{config.eval.weights}"]
        run.log.write("eval", run.step, {"epoch": shared["epoch"], **metrics})
    if costs_of_all is not None:
        # Before the last checkpoint, behind which nothing is done again.
        run.log.write("timing", run.step, costs_of_all)
    run.save(state, {task.headline: run.headline} if metrics and task.ranks else None)


@contextmanager
def _ending(run: SeedRun, runs: Sequence[SeedRun]) -> Iterator[None]:
    """Let a seed that is not finite end by itself, and say so, where others may go on."""
    try:
        yield
    except NotFiniteError as error:
        run.failure = error
        if len(runs) > 1:
            hosts.say(f"warning: {_of_seed(run, runs, str(error))}")


def _end_if_asked(runs: Sequence[SeedRun], states: SeedStates) -> None:
    """Raise Interrupted, with everything on disk, where a signal asked any process of the run to end."""
    number = hosts.largest(signals.requested())
    if not number:
        return
    for place, run in enumerate(runs):
        if run.failure is None and not run.saved:
            with _ending(run, runs):
                run.save(states.of(place), None, interim=True)
    for run in runs:
        run.checkpoints.wait()
    hosts.say(f"stopped after step {max(run.step for run in runs)}")
    raise signals.Interrupted(number)


def _shared_record(
    setup: Setup, values: dict[str, np.ndarray], step: int, steps: int, seconds: float
) -> dict[str, float]:
    """Return what is logged of one chunk and is the same for all seeds: schedules at its last step, and times."""
    record = {
        "epoch": step / setup.plan.steps_per_epoch,
        **setup.scheduled(step - 1),
        "step_ms": 1e3 * seconds / steps,
    }
    if "input_wait_s" in values:
        record["input_wait_percent"] = 100 * float(values["input_wait_s"]) / seconds
    return record


def _of_place(values: dict[str, np.ndarray], place: int, places: int) -> dict[str, np.ndarray]:
    return values if places == 1 else {name: value[place] for name, value in values.items()}


def _of_seed(run: SeedRun, runs: Sequence[SeedRun], text: str) -> str:
    return text if len(runs) == 1 else f"seed {run.setup.seed}: {text}"


def _progress_text(runs: Sequence[SeedRun], record: dict[str, float]) -> str:
    """Return one line of the chunk; of several seeds means over those that go on."""
    task = runs[0].setup.task
    going = [run for run in runs if run.failure is None]
    if not going:
        return "no seed goes on"
    loss, headline = (float(np.mean([getattr(run, name) for run in going])) for name in ("loss", "headline"))
    test = "" if math.isnan(headline) else f"  {task.selection} {task.headline} {headline:.4g}"
    means = f"  means of {len(going)} seeds" if len(runs) > 1 else ""
    matrices = f", of matrices {record['muon_learning_rate']:.2e}" if "muon_learning_rate" in record else ""
    return (
        f"epoch {record['epoch']:.4g}  loss {loss:.4g}{test}{means}  "
        f"lr {record['learning_rate']:.2e}{matrices}  {record['step_ms']:.2f} ms/step"
    )

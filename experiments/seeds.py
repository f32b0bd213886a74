"""The seeds of a run: trained or restored in their folders, and what they report together."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from experiments import converted, report, workdir
from experiments.errors import NotFiniteError, UserError
from experiments.program import Request, writing
from experiments.training import hosts
from experiments.training.loop import train_together
from experiments.training.optimizers import peak_rates
from experiments.training.packing import Params
from experiments.training.seed_run import grouped, saved_checkpoints
from experiments.training.setup import Setup
from experiments.training.source import open_source
from experiments.training.state import TrainState
from experiments.training.trackers import Tracker, open_trackers
from flare_jax.convert.checkpoints import OtherStateError

Ensemble = Callable[[Sequence[Params]], tuple[Mapping[str, float], Mapping[str, Any], Sequence[str]]]


@dataclass(frozen=True)
class Trained:
    """A seed that is trained, or restored: its folder, its state, and the name of its report."""

    seed: int
    folder: Path
    state: TrainState
    file: str


class Seeds:
    """The seeds of a request, trained or restored one after the other or in groups, to be evaluated one by one.

    `setup` is that of the first seed, `initial(seed)` returns the initial parameters of another. `failures` says why
    seeds ended before the end of the training; these are not evaluated. `members` are the weights of the others that
    are evaluated, where there are several seeds.
    """

    def __init__(self, request: Request, setup: Setup, initial: Callable[[int], Params]) -> None:
        self._request, self._setup, self._initial = request, setup, initial
        self._seeds = tuple(request.config.train.seeds)
        self.failures: dict[int, NotFiniteError] = {}
        self.members: dict[int, Params] = {}

    def __iter__(self) -> Iterator[Trained]:
        for trained in self._trained() if self._request.mode == "train" else self._restored():
            if len(self._seeds) > 1:
                # In the memory of the host: the device needs its own for the next seeds.
                weights = self._setup.weights(trained.state)[self._request.config.eval.weights]
                self.members[trained.seed] = jax.device_get(weights)
            yield trained

    def _trained(self) -> Iterator[Trained]:
        config = self._request.config
        groups = grouped(self._seeds, config.train.parallel_seeds)
        places = len(groups[0])
        # One source for all groups: their programs are the same.
        source = open_source(self._setup, config, places)
        for group in groups:
            if len(group) > 1:
                hosts.say(f"seeds {', '.join(map(str, group))} in one program")
            elif len(self._seeds) > 1:
                hosts.say(f"seed {group[0]}")
            folders = [self._folder(seed) for seed in group]
            setups = [self._setup_of(seed) for seed in group]
            trackers = [self._trackers(folder) for folder in folders]
            outcomes = train_together(setups, config, folders, source, places=places, trackers=trackers)
            for seed, folder, outcome in zip(group, folders, outcomes, strict=True):
                if isinstance(outcome, NotFiniteError):
                    self.failures[seed] = outcome
                    continue
                if len(group) > 1:
                    hosts.say(f"seed {seed}")
                _say_if_better(self._setup, folder, int(outcome.step))
                yield Trained(seed, folder, outcome, self._request.report_file)

    def _restored(self) -> Iterator[Trained]:
        step = self._request.step
        for seed in self._seeds:
            if len(self._seeds) > 1:
                hosts.say(f"seed {seed}")
            folder = self._folder(seed)
            state = _restore(self._setup, folder, step)
            if step is None:
                _say_if_better(self._setup, folder, int(state.step))
            yield Trained(seed, folder, state, self._request.report_file)

    def _folder(self, seed: int) -> Path:
        """Return the folder of one seed: the run's own where there is only one, else one like that of a single run."""
        if len(self._seeds) == 1:
            return self._request.folder
        folder = self._request.folder / f"seed_{seed}"
        if self._request.mode == "train" and hosts.is_main():
            workdir.write_seed_config(self._request.folder, folder, seed)
        return folder

    def _trackers(self, folder: Path) -> Sequence[Tracker]:
        request = self._request
        return open_trackers(request.track, folder, request.config, request.folder.parent) if hosts.is_main() else ()

    def _setup_of(self, seed: int) -> Setup:
        return self._setup if seed == self._setup.seed else self._setup.for_seed(self._initial(seed), seed)


def _restore(setup: Setup, folder: Path, step: int | None) -> TrainState:
    if converted.is_converted(folder):
        return converted.load_state(setup, folder)
    if not (folder / "checkpoints").is_dir():
        raise UserError(f"{folder} holds no checkpoints; train first, with the same --workdir")
    checkpoints = saved_checkpoints(setup, folder)
    steps = checkpoints.steps()
    if step is not None and step not in steps:
        raise UserError(f"--step={step} is not among the checkpoints {steps} in {folder / 'checkpoints'}")
    try:
        if step is not None:
            return checkpoints.restore(setup.template, step)
        state = checkpoints.restore_latest(setup.template, hosts.say)
    except OtherStateError as error:
        if not error.weights_fit:
            raise
        hosts.say(f"warning: {error}")
        state = checkpoints.restore_weights(setup.template, int(error.checkpoint.name))
    if state is None:
        raise UserError(f"{folder / 'checkpoints'} holds no complete checkpoint; train first, with the same --workdir")
    return state


def _say_if_better(setup: Setup, folder: Path, step: int) -> None:
    """Say where the validation samples prefer an earlier checkpoint to the one of `step`."""
    task = setup.task
    if not task.ranks or converted.is_converted(folder):
        return
    saved = saved_checkpoints(setup, folder)
    errors = {one: saved.metric(one, task.headline) for one in saved.steps()}
    known = {one: error for one, error in errors.items() if error is not None}
    best = (max if task.higher_is_better else min)(known, key=known.__getitem__, default=step)
    if step in known and known[best] != known[step]:
        hosts.say(
            f"{task.selection} {task.headline} was best at step {best}, {known[best]:.4g} and {known[step]:.4g} at the "
            f"last; --step={best} evaluates and predicts with that checkpoint"
        )


def refuse_infinite(summaries: Mapping[int, Mapping[str, Any]], headline: str, rates: str) -> None:
    """Raise UserError where the reported headline metric of a seed is not finite; `rates` are those to lower."""
    for seed, summary in summaries.items():
        for name, value in summary.items():
            if name.endswith(f"/{headline}") and not math.isfinite(value):
                raise UserError(
                    f"{name} is {value} with the weights of step {summary['step']} of seed {seed}, so these predict "
                    "nothing; evaluate an earlier checkpoint by --step, or train in another "
                    f"workdir with a lower {rates}"
                )


def finish_seeds(
    request: Request,
    seeds: Seeds,
    summaries: Mapping[int, Mapping[str, Any]],
    headline: str,
    show: Callable[[float, float | None], str],
    ensemble: Ensemble,
    folder: Path | None = None,
) -> None:
    """Report the seeds together: mean and spread of the headline metric, as `show(mean, spread)` words them.

    The report goes into `folder`, by default that of the request. `ensemble(members)` returns the metrics of the
    averaged prediction by split and name, further entries of the report, and further lines. Raises UserError
    for seeds that ended early, and where the headline metric of one is not finite.
    """
    if len(request.config.train.seeds) > 1 and summaries:
        combined = _combined(seeds, summaries, headline, show, ensemble)
        with writing(request):
            if hosts.is_main():
                report.write_eval(folder or request.folder, request.report_file, combined)
    if seeds.failures:
        reasons = [str(error) for error in seeds.failures.values()]
        if len(request.config.train.seeds) > 1:
            reasons = [f"seed {seed}: {text}" for seed, text in zip(seeds.failures, reasons, strict=True)]
        raise UserError("; ".join(reasons))
    refuse_infinite(summaries, headline, peak_rates(request.config.optimizer))


def _combined(
    seeds: Seeds,
    summaries: Mapping[int, Mapping[str, Any]],
    headline: str,
    show: Callable[[float, float | None], str],
    ensemble: Ensemble,
) -> dict[str, Any]:
    """Return the report of all seeds that reached the end, and say what it says of the headline metric."""
    last = max(summary["step"] for summary in summaries.values())
    finished = {seed: summary for seed, summary in summaries.items() if summary["step"] == last}
    for seed in summaries.keys() - finished.keys():
        hosts.say(
            f"warning: seed {seed} ended at step {summaries[seed]['step']} of {last} and is left out of the means"
        )
    combined, lines, averaged = report.combine_seeds(finished), [], {}
    if len(finished) > 1:
        averaged, more, lines = ensemble([seeds.members[seed] for seed in finished])
        combined |= {f"{name}_ensemble": value for name, value in averaged.items()} | more
    for name, value in combined.items():
        if name.endswith(f"/{headline}"):
            text = f"{name} over seeds {combined['seeds']}: {show(value['mean'], value['std'])}"
            if name in averaged:
                text += f"; of the averaged prediction {show(averaged[name], None)}"
            hosts.say(text)
    for line in lines:
        hosts.say(line)
    return combined

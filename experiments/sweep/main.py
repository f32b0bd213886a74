"""The program: plan the runs of a study, execute what is missing, collect tables and figures."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from rich.console import Console
from rich.table import Table

from experiments import cli, figures
from experiments.errors import UserError
from experiments.sweep import jobs, rows, selection
from experiments.sweep.board import Board, name_of
from experiments.sweep.runs import Run, TrainingRun
from experiments.sweep.schedule import Schedule, failure_of, forget_failures
from experiments.sweep.study import Study

FLAGS = flags.FLAGS
_FAILED = 1


def define_flags() -> None:
    """Define the flags of the program, and have --help show them."""
    with cli.shown_in_help():
        _define_flags()


def _define_flags() -> None:
    selection.define_selection()
    flags.DEFINE_string("out", "out/studies", "Folder of the runs, which studies share, and of the tables and figures.")
    flags.DEFINE_string("data_dir", None, "Folder of the data sets; replaces config.data.dir.")
    flags.DEFINE_integer("jobs", 1, "Processes per GPU; on a machine without one, processes.")
    flags.DEFINE_float(
        "minutes", None, "After so long, jobs write checkpoints and end; the same command goes on.", lower_bound=0.01
    )
    flags.DEFINE_string(
        "compilation_cache",
        None,
        "Folder of compiled programs, which jobs on GPUs share; by default OUT/cache, empty for none.",
    )
    flags.DEFINE_list("seeds", None, "Seeds of every run; by default those of the study.")
    flags.DEFINE_integer("parallel_seeds", 0, "Seeds of a run that are trained in one program; 0: all.", lower_bound=0)
    flags.DEFINE_bool("list", False, "List the runs and how far they are; run nothing.")
    flags.DEFINE_bool("dry_run", False, "Print the commands of the runs that are missing; run nothing.")
    flags.DEFINE_bool("collect", False, "Write the tables of what is done; run nothing.")
    flags.DEFINE_bool("plot", False, "Draw the figures of what is done; run nothing.")
    flags.DEFINE_bool("retry_failed", False, "Begin runs again that failed before.")
    flags.DEFINE_bool("debug", False, "Show tracebacks.")


def main() -> None:
    """Do what the flags ask for; exits with status 1 where a run failed."""
    chosen = selection.read_selection()
    jobs.check_jobs(FLAGS.jobs)
    looks = [f"--{name}" for name in ("list", "dry_run", "collect", "plot") if FLAGS[name].value]
    if looks and (FLAGS.retry_failed or FLAGS.minutes is not None):
        name = "retry_failed" if FLAGS.retry_failed else "minutes"
        raise UserError(f"--{name} has no effect with {looks[0]}, which runs nothing; leave one of them out")
    study, out = chosen.study, Path(FLAGS.out)
    runs = chosen.plan(out, _given_seeds(), data_dir=FLAGS.data_dir, together=FLAGS.parallel_seeds)
    _check_taken(runs)
    if FLAGS.list:
        list_runs(runs)
    if FLAGS.dry_run:
        print("\n".join(command_lines(runs)))
    failed = False
    if not looks:
        slots = jobs.make_slots(FLAGS.jobs, cache=jobs.cache_folder(FLAGS.compilation_cache, out))
        if FLAGS.retry_failed:
            forget_failures(runs)
        seconds = math.inf if FLAGS.minutes is None else 60 * FLAGS.minutes
        failed = not execute(study, runs, slots, jobs.launch, seconds)
    if not looks or FLAGS.collect or FLAGS.plot:
        report(study, runs, out, tables=not looks or FLAGS.collect, draw=not looks or FLAGS.plot)
    if failed:
        sys.exit(_FAILED)


def execute(
    study: Study,
    runs: Sequence[Run],
    slots: Sequence[jobs.Slot],
    launch: jobs.Launch,
    seconds: float = math.inf,
) -> bool:
    """Execute what is missing, for at most about `seconds`, and say what failed; return whether nothing has."""
    board = Board(runs)
    places = ", ".join(dict.fromkeys(slot.describe() for slot in slots))
    print(f"{study.title}: {len({run.folder for run in runs})} runs, {len(slots)} at a time on {places}", flush=True)
    outcome = Schedule(runs, slots, launch, board, seconds).execute()
    named = {run.folder: name_of(run) for run in runs}
    for folder, sentence in outcome.failed.items():
        print(f"failed: {named[folder]}: {sentence} (log: {folder / jobs.LOG}; --retry_failed begins it again)")
    for folder, sentence in outcome.ended.items():
        print(f"ended: {named[folder]}: {sentence} (the same command goes on with it)")
    if outcome.postponed:
        print(f"the time is over with {len(outcome.postponed)} runs to do; the same command goes on with them")
    return not outcome.failed and not outcome.ended


def report(study: Study, runs: Sequence[Run], out: Path, tables: bool = True, draw: bool = True) -> list[rows.Row]:
    """Write the tables and figures of what is done into the study's folder and print the table; return the rows."""
    folder = out / study.name
    found = [
        rows.make_row(labels, seeds, study.columns, study.published, run.data())
        for run in runs
        for labels, seeds in run.results()
    ]
    folder.mkdir(parents=True, exist_ok=True)
    if tables:
        rows.write_csv(folder / "results.csv", study.columns, found)
        rows.write_markdown(folder / "results.md", study.title, study.columns, study.metrics, found)
        print(rows.markdown(study.columns, study.metrics, found), end="")
        print(f"{folder / 'results.csv'}, {folder / 'results.md'}")
    if draw:
        for name, drawing in study.figures.items():
            figures.save(drawing.draw(study.title, found), folder / f"{name}.png")
            print(folder / f"{name}.png")
    return found


def list_runs(runs: Sequence[Run]) -> None:
    """Print a table of the runs: labels, folder, and how far each is."""
    table = Table()
    for column in ("run", "state", "folder"):
        table.add_column(column, overflow="fold")
    for run in runs:
        table.add_row(name_of(run), _state(run), str(run.folder))
    Console(width=None if sys.stdout.isatty() else 200).print(table, markup=False, highlight=False)


def _state(run: Run) -> str:
    sentence = failure_of(run)
    if sentence:
        return f"failed: {sentence}"
    return "done" if run.command() is None else f"{100 * run.progress():.0f} %"


def command_lines(runs: Sequence[Run]) -> list[str]:
    """Return the commands of the runs that are not done, each once."""
    commands = {run.folder: run.command() for run in runs}
    return [f"python -m {command[0]} {' '.join(command[1])}" for command in commands.values() if command]


def _given_seeds() -> tuple[int, ...] | None:
    if FLAGS.seeds is None:
        return None
    if not FLAGS.seeds or not all(text.isdecimal() for text in FLAGS.seeds):
        raise UserError(f"--seeds={','.join(FLAGS.seeds)} must be integers with commas between them, such as 0,1,2")
    return tuple(map(int, FLAGS.seeds))


def _check_taken(runs: Sequence[Run]) -> None:
    """Raise UserError for a flag that no run takes: a measurement has no options, and one seed nothing beside it."""
    trainings = [run for run in runs if isinstance(run, TrainingRun)]
    given = [
        name for name in ("set", "seeds", "data_dir", "parallel_seeds") if FLAGS[name].value != FLAGS[name].default
    ]
    if given and not trainings:
        value = FLAGS[given[0]].value
        text = ",".join(value) if isinstance(value, list) else value
        raise UserError(f"--{given[0]}={text} has no effect on measurements, and no training is chosen; leave it out")
    together = FLAGS.parallel_seeds
    if together > 1 and all(run.config.train.parallel_seeds == 1 for run in trainings):
        raise UserError(
            f"--parallel_seeds={together} has no effect, for the runs have one seed or train one after the other; "
            "leave it out, or give several --seeds"
        )

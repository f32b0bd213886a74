"""How long is a training step of each network of a study, with the device to itself? Run on a GPU:

    python -m benchmarks.study_steps --study=studies/mixers.py:darcy --where=num_blocks=8

Runs of a sweep share the GPU with others, so that their own step times say little. This times each run's training step
alone, one after the other, on random data of the shape of its data set (as `benchmarks.train_step`), and multiplies by
the steps of its training: the GPU-seconds that figures of cost over error show.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks.command import check_output
from benchmarks.options import check_device, define_any_device, define_counts
from benchmarks.timing import device_line, print_table, write_results
from benchmarks.train_step import data_shape, dataset_of_steps, setup_of, time_steps
from data_pipeline.registry import find_record
from experiments import cli, program
from experiments.errors import UserError
from experiments.model_options import program_of
from experiments.sweep.board import name_of
from experiments.sweep.runs import Run, TrainingRun
from experiments.sweep.selection import define_selection, read_selection
from experiments.training.plan import make_plan
from flare_jax.params import count_parameters

FLAGS = flags.FLAGS


def measure(config: Any, steps: int, repeats: int) -> dict[str, float]:
    """Return parameters, the median milliseconds of a step, and the seconds of all steps of the training."""
    with program.matmul_precision(config):
        setup = setup_of(config, dataset_of_steps(config, steps))
        parameters = count_parameters(setup.template.params)
        runner, seconds, _ = time_steps(setup, config, steps, repeats)
    count = _steps_of(config)
    return {
        "parameters": parameters,
        "step_ms": 1e3 * seconds,
        "steps": count,
        "train_s": count * seconds,
        "compile_s": runner.compile_seconds,
    }


def _steps_of(config: Any) -> int:
    return make_plan(config, config.data.n_train).steps


def checked_trainings(runs: Sequence[Run]) -> list[TrainingRun]:
    """Return the runs; raises UserError for one whose step is not timed on random data, or that cannot be."""
    for run in runs:
        if not isinstance(run, TrainingRun) or program_of(run.config) != "pdebench":
            raise UserError(
                f"{name_of(run)} trains no fields, and no random data stand for its own; choose others with --where"
            )
        data = run.config.data
        data_shape(data.name)
        for name, option in find_record(data.name).options.items():
            if data[name] != option.default:
                raise UserError(
                    f"{name_of(run)} has data.{name}={data[name]}, but random data are those of {option.default}; "
                    "leave it out or choose others with --where"
                )
        _steps_of(run.config)
    return list(runs)


def main() -> None:
    """Time every run and print one table."""
    selection = read_selection()
    check_output(FLAGS.output)
    # Any folder: nothing is written there.
    trainings = checked_trainings(selection.plan(Path("out"), seeds=(0,)))
    check_device()
    found = []
    for training in trainings:
        found.append({**training.labels, **measure(training.config, FLAGS.steps, FLAGS.repeats)})
        # Of a program that may be ended before it is through.
        print(f"{name_of(training)}: {found[-1]['step_ms']:.3f} ms", flush=True)
        write_results(FLAGS.output, {"study": FLAGS.study, "device": device_line(), "runs": found})
    print(f"{selection.study.title}, {device_line()}, medians of {FLAGS.repeats} x {FLAGS.steps} steps")
    rows = [
        (name_of(run), f"{row['parameters']:,}", f"{row['step_ms']:.3f}", row["steps"], f"{row['train_s']:.4g}")
        for run, row in zip(trainings, found, strict=True)
    ]
    print_table(("run", "parameters", "ms/step (median)", "steps", "seconds of all steps"), rows)


def define_flags() -> None:
    """Define the flags of the program, and have --help show them."""
    with cli.shown_in_help():
        define_selection()
        define_counts(
            steps=(50, "Optimizer steps per measurement."), repeats=(5, "Measurements; the median is reported.")
        )
        define_any_device()
        flags.DEFINE_string("output", None, "JSON file for the results.")
        flags.DEFINE_bool("debug", False, "Show tracebacks.")


if __name__ == "__main__":
    define_flags()
    cli.run(main)

"""How long is one training step of a FLARE config on this CPU, and how long in PyTorch on the same cores?

    python -m benchmarks.train_step_cpu --config=configs/flare_elas.py:smoke --config.optimizer.name=adamw

Both run in one process, in turn, on random data of the data set's shape: the config's own step, as in
`benchmarks.train_step`, and the same network and optimizer in eager PyTorch, in float32, with as many threads as there
are cores. Where others use the cores, the CPU time per step says more than the time on the clock, but PyTorch's threads
spin while they wait for each other: `taskset -c 0` leaves both one core, and both times are fair.
"""

import os
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from absl import flags

from benchmarks.options import checked_config, define_counts
from benchmarks.timing import device_line, print_table, write_results
from benchmarks.train_step import TORCH_SIZES, data_shape, dataset_of_steps, setup_of
from experiments import cli
from experiments.errors import UserError
from experiments.training.device_source import DeviceSource

FLAGS = flags.FLAGS
# Until the threads of the other library are asleep.
_PAUSE_SECONDS = 0.3


class Times(NamedTuple):
    """Median seconds of a step: on the clock, and of all cores together."""

    clock: float
    cpu: float


def in_turn(runs: Mapping[str, Callable[[], None]], steps: int, repeats: int) -> dict[str, Times]:
    """Time runs of `steps` steps each, one after the other, `repeats` times after one that warms up."""
    samples: dict[str, list[Times]] = {name: [] for name in runs}
    for _ in range(repeats + 1):
        for name, run in runs.items():
            time.sleep(_PAUSE_SECONDS)
            clock, cpu = time.perf_counter(), _cpu_seconds()
            run()
            samples[name].append(Times((time.perf_counter() - clock) / steps, (_cpu_seconds() - cpu) / steps))
    return {name: Times(*map(statistics.median, zip(*found[1:], strict=True))) for name, found in samples.items()}


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _cell(seconds: float) -> str:
    return f"{1e3 * seconds:.2f}"


def _ratio(seconds: float, ours: float) -> str:
    return f"{seconds / ours:.2f}x"


def main() -> None:
    """Time both and print one table."""
    config = checked_config("configs/flare_elas.py:smoke")
    if config.train.dtype != "float32":
        raise UserError(f"train.dtype={config.train.dtype!r} is not compared on a CPU; give float32")
    if FLAGS.torch and config.optimizer.name != "adamw":
        raise UserError(
            f"optimizer.name={config.optimizer.name!r} is not what the PyTorch step has; give adamw, or --notorch"
        )
    steps, repeats = FLAGS.steps, FLAGS.repeats
    shape = {"batch": config.train.batch_size, **data_shape(config.data.name)}
    setup = setup_of(config, dataset_of_steps(config, steps))
    source, state = DeviceSource(setup, config), setup.template

    def run_jax() -> None:
        nonlocal state
        state, _, _ = source(state, 0, steps)

    runs = {"flare_jax": run_jax}
    if FLAGS.torch:
        import torch

        from benchmarks.torch_flare import cpu_training_step

        torch.set_num_threads(len(os.sched_getaffinity(0)))
        size = {name: config.model[key] for name, key in TORCH_SIZES.items()}
        step = cpu_training_step(**shape, **size, steps=steps * (repeats + 1) + 1)
        runs["PyTorch eager"] = lambda: [step() for _ in range(steps)] and None
    times = in_turn(runs, steps, repeats)
    ours = times["flare_jax"]
    print(f"{config.name}: {shape}, {device_line()}, {len(os.sched_getaffinity(0))} cores")
    header = ("implementation", "ms/step (median)", "ratio", "CPU ms/step", "ratio")
    rows = [
        (name, _cell(x.clock), _ratio(x.clock, ours.clock), _cell(x.cpu), _ratio(x.cpu, ours.cpu))
        for name, x in times.items()
    ]
    print_table(header, rows)
    measured = {name: {"ms": 1e3 * t.clock, "cpu_ms": 1e3 * t.cpu} for name, t in times.items()}
    write_results(FLAGS.output, {"config": config.name, **shape, **measured})


if __name__ == "__main__":
    cli.define_flags()
    define_counts(steps=(20, "Optimizer steps per measurement."), repeats=(5, "Measurements; the median is reported."))
    flags.DEFINE_bool("torch", True, "Measure the PyTorch baseline too.")
    flags.DEFINE_string("output", None, "JSON file for the results.")
    cli.run(main)

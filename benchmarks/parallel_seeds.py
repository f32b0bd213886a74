"""How long is a training step of several seeds in one program? Run on a GPU:

    python -m benchmarks.parallel_seeds --config=configs/flare_elas.py --seeds=1,2,4,8,16

Times what `experiments.pdebench` runs with `train.parallel_seeds` of each number, on random data of the data set's
shape: milliseconds per step of all seeds and per seed, and the ratio to one seed.
"""

import statistics
from typing import Any

from absl import flags

from benchmarks.options import check_device, checked_config, define_any_device, define_counts
from benchmarks.timing import device_line, print_table, write_results
from benchmarks.train_step import dataset_of_steps, setup_of
from data_pipeline.dataset import PDEDataset
from experiments import cli, program
from experiments.errors import UserError
from experiments.training.costs import allocator_peak
from experiments.training.device_source import DeviceSource
from experiments.training.seed_run import SeedStates
from experiments.training.state import TrainState

FLAGS = flags.FLAGS


def start_of_seeds(config: Any, dataset: PDEDataset, seeds: int) -> tuple[DeviceSource, TrainState]:
    """Return what runs the steps of so many seeds together, and their state before them."""
    setups = [setup_of(config, dataset, seed=seed) for seed in range(seeds)]
    states = SeedStates([setup.template for setup in setups], seeds, setups[0].mesh)
    return DeviceSource(setups[0], config, seeds), states.joined


def measure(config: Any, dataset: PDEDataset, seeds: int, steps: int, repeats: int) -> dict[str, Any]:
    """Return the median seconds of a step of so many seeds together, those of compilation, and the memory."""
    source, state = start_of_seeds(config, dataset, seeds)
    state, _, _ = source(state, 0, steps)
    times = []
    for _ in range(repeats):
        state, _, taken = source(state, 0, steps)
        times.append(taken / steps)
    step_ms = 1e3 * statistics.median(times)
    return {
        "seeds": seeds,
        "step_ms": step_ms,
        "ms_per_seed": step_ms / seeds,
        "compile_s": source.compile_seconds,
        "temporary_bytes": source.temporary_bytes(),
        "peak_bytes": allocator_peak(),
    }


def main() -> None:
    """Time every number of seeds and print one table."""
    config = checked_config("configs/flare_elas.py")
    counts = _counts(FLAGS.seeds)
    check_device()
    dataset = dataset_of_steps(config, FLAGS.steps)
    rows = []
    with program.matmul_precision(config):
        for seeds in counts:
            rows.append(measure(config, dataset, seeds, FLAGS.steps, FLAGS.repeats))
            print(f"{seeds} seeds: {rows[-1]['step_ms']:.3f} ms per step", flush=True)
            write_results(FLAGS.output, {"config": config.name, "rows": rows})
    print(f"{config.name}: batch {config.train.batch_size}, dtype {config.train.dtype}, {device_line()}")
    first = rows[0]
    print_table(
        ("seeds", "ms/step (median)", "ms per seed", f"ratio to {first['seeds']}", "compilation s", "temporary MiB"),
        [
            (
                str(row["seeds"]),
                f"{row['step_ms']:.3f}",
                f"{row['ms_per_seed']:.3f}",
                f"{row['step_ms'] / first['step_ms']:.2f}x",
                f"{row['compile_s']:.0f}",
                "-" if row["temporary_bytes"] is None else f"{row['temporary_bytes'] / 2**20:.0f}",
            )
            for row in rows
        ],
    )


def _counts(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isdecimal() and 1 <= int(part) <= 1024 for part in parts):
        raise UserError(f"--seeds={text} must be numbers from 1 to 1024 with commas between them, such as 1,2,4,8,16")
    return [int(part) for part in parts]


if __name__ == "__main__":
    cli.define_flags()
    flags.DEFINE_string("seeds", "1,2,4,8,16", "Numbers of seeds that are timed, with commas between them.")
    define_counts(
        steps=(200, "Optimizer steps per measurement."),
        repeats=(5, "Measurements; the median is reported."),
    )
    define_any_device()
    flags.DEFINE_string("output", None, "JSON file for the results.")
    cli.run(main)

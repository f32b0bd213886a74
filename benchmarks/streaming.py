"""Does a set larger than memory train at the speed of the device? Run on a GPU:

    python -m benchmarks.streaming --config=configs/flare_drivaerml_1m.py --folder=data/streaming

Writes artificial stand-ins with the files of DrivAerML (80 runs of a million points, 64 of which train), builds the
streaming cache, and trains some epochs of the config as `experiments.pdebench` does with config.data.stream=always:
with files that the operating system has in memory, and with files that it has to read from the disk. In the same run
the same step is timed on samples that stay on the device.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from benchmarks.options import check_device, checked_config, define_any_device, define_counts
from benchmarks.timing import device_line, median_seconds, print_table, write_results
from benchmarks.train_step import setup_of
from data_pipeline.custom.loader import load
from data_pipeline.dataset import PDEDataset, Split
from data_pipeline.generate import generate
from data_pipeline.registry import find_record
from experiments import cli, program
from experiments.training.costs import allocator_peak
from experiments.training.device_source import DeviceSource
from experiments.training.disk_source import DiskSource

FLAGS = flags.FLAGS
TARGET_PERCENT = 5.0


class Epoch(NamedTuple):
    """One epoch: where its data were, seconds per step, share of the time that was spent waiting for input."""

    label: str
    step_seconds: float
    waited: float


def make_set(name: str, folder: Path, runs: int) -> tuple[PDEDataset, float]:
    """Return the streamed set of `runs` generated runs of data set `name`, and the seconds that its cache took.

    Files and cache that are there already are used again.
    """
    files = folder / find_record(name).folder
    if not (files / "train").is_dir():
        generate(name, folder, num=runs)
    begin = time.perf_counter()
    options = {"points": "surface_mesh_centers", "targets": "surface_fields:0", "stream": "always"}
    dataset = load(folder, 0, 0, path=str(files), **options)
    return dataset, time.perf_counter() - begin


def on_the_device(config: Any, dataset: PDEDataset, samples: int, repeats: int) -> float:
    """Return the median seconds of a step on `samples` training samples that are on the device."""
    few = min(samples, len(dataset.train))
    split = Split(np.asarray(dataset.train.x[:few]), np.asarray(dataset.train.y[:few]))
    setup = setup_of(config, PDEDataset(**{**_fields(dataset), "train": split, "tests": {"test": split}}))
    runner, states = DeviceSource(setup, config), [setup.template]
    steps = setup.plan.steps_per_epoch

    def run() -> None:
        states.append(runner(states.pop(), 0, steps)[0])

    return median_seconds(run, repeats) / steps


def _fields(dataset: PDEDataset) -> dict[str, Any]:
    return {name: getattr(dataset, name) for name in PDEDataset.__dataclass_fields__}


def streamed(config: Any, dataset: PDEDataset, epochs: int) -> tuple[list[Epoch], float]:
    """Train `epochs` epochs from memory and as many from disk; return them, and the seconds of compilation."""
    setup = setup_of(config, dataset)
    runner, state, steps = DiskSource(setup, config), setup.template, setup.plan.steps_per_epoch
    results = []
    try:
        for number, cold in enumerate([False] * epochs + [True] * epochs):
            if cold:
                evict(dataset)
            state, values, seconds = runner(state, number * steps, (number + 1) * steps)
            label = "from disk" if cold else "from the file cache"
            results.append(Epoch(label, seconds / steps, float(values["input_wait_s"]) / seconds))
        return results, runner.compile_seconds
    finally:
        runner.close()


def evict(dataset: PDEDataset) -> None:
    """Ask the operating system to forget what it holds in memory of the cache's files."""
    for path in sorted(dataset.train.x.cache.folder.glob("*.h5")):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def read_speed(dataset: PDEDataset, samples: int) -> float:
    """Return the bytes per second at which one thread reads samples of evicted files."""
    evict(dataset)
    begin = time.perf_counter()
    size = sum(dataset.train.x.load([case], dataset.max_length).nbytes for case in range(samples))
    return size / (time.perf_counter() - begin)


def table(epochs: Sequence[Epoch], device_seconds: float) -> list[tuple[str, str, str, str]]:
    """Return one row per epoch, and one for the step on the device, which comes first."""
    rows = [("on the device", f"{1e3 * device_seconds:.2f}", "1.00", "-")]
    for epoch in epochs:
        ratio = epoch.step_seconds / device_seconds
        rows.append((epoch.label, f"{1e3 * epoch.step_seconds:.2f}", f"{ratio:.2f}", f"{100 * epoch.waited:.2f} %"))
    return rows


def main() -> None:
    """Measure and print one table."""
    config = checked_config("configs/flare_drivaerml_1m.py")
    check_device()
    name = config.data.name
    dataset, build_seconds = make_set(name, Path(FLAGS.folder), FLAGS.runs)
    config.train.epochs, config.train.steps = 2 * FLAGS.epochs, 0
    with program.matmul_precision(config):
        device_seconds = on_the_device(config, dataset, FLAGS.device_samples, repeats=3)
        epochs, compile_seconds = streamed(config, dataset, FLAGS.epochs)
    speed = read_speed(dataset, min(4, len(dataset.train)))
    print(
        f"{config.name}: {len(dataset.train)} samples of {dataset.max_length} points, batch {config.train.batch_size}, "
        f"{device_line()}, compilation {compile_seconds:.0f} s, cache built or found in {build_seconds:.0f} s, "
        f"one thread reads {speed / 1e9:.2f} GB/s from disk"
    )
    print_table(("data", "ms/step", "ratio", "waiting for input"), table(epochs, device_seconds))
    # The first epoch begins with an empty queue and verifies all checksums.
    worst = 100 * max(epoch.waited for epoch in epochs[1:])
    print(
        f"waiting for input after the first epoch: at most {worst:.2f} % of the time, wanted below {TARGET_PERCENT:g} %"
    )
    results = {
        "config": config.name,
        "samples": len(dataset.train),
        "points": dataset.max_length,
        "device_ms": 1e3 * device_seconds,
        "epochs": [{"data": e.label, "ms": 1e3 * e.step_seconds, "waited": e.waited} for e in epochs],
        "read_bytes_per_s": speed,
        "peak_bytes": allocator_peak(),
    }
    write_results(FLAGS.output, results)


if __name__ == "__main__":
    cli.define_flags()
    flags.DEFINE_string("folder", "data/streaming", "Where generated files and cache go.")
    define_counts(
        runs=(80, "Runs to generate; a fifth of them are tests."),
        epochs=(2, "Epochs from memory, and as many from disk."),
        device_samples=(4, "Samples of the comparison on the device."),
    )
    define_any_device()
    flags.DEFINE_string("output", None, "JSON file for the results.")
    cli.run(main)

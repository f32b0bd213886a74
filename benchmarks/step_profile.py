"""Which kernels does a training step consist of, and how long is each? Run on a GPU:

    python -m benchmarks.step_profile --config=configs/flare_elas.py
    python -m benchmarks.step_profile --config=configs/flare_elas.py --seeds=8
    python -m benchmarks.step_profile --config=configs/lm.py:model=recommended,size=15M --config.data.length=32768 \
        --config.train.batch_size=4 --steps=4

Runs the training step of `benchmarks.train_step`, or of a language model on random bytes, under JAX's profiler and
prints, for every kernel, how often it is launched in a step and for how long, the most expensive first, and how much
of the step no kernel runs. With --seeds it is the step of so many seeds in one program (`benchmarks.parallel_seeds`).
"""

import gzip
import json
import re
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import flags

from benchmarks import causal_lm
from benchmarks.command import check_gpu
from benchmarks.options import checked_config, define_counts
from benchmarks.parallel_seeds import start_of_seeds
from benchmarks.timing import device_line, print_table, write_results
from benchmarks.train_step import random_dataset
from experiments import cli, program
from experiments.errors import UserError
from experiments.model_options import program_of
from experiments.training.device_source import DeviceSource
from experiments.training.setup import Setup
from experiments.training.state import TrainState

FLAGS = flags.FLAGS


class Kernel(NamedTuple):
    """A kernel's name without its number, its launches, and their microseconds together."""

    name: str
    launches: int
    microseconds: float


def kernels_of(trace: dict[str, Any]) -> list[Kernel]:
    """Return the kernels in a trace of the profiler, the most expensive first."""
    events = trace["traceEvents"]
    names = {(x.get("name"), x["pid"], x.get("tid")): x["args"].get("name", "") for x in events if x.get("ph") == "M"}
    devices = {pid for (kind, pid, _), name in names.items() if kind == "process_name" and "/device:GPU" in name}
    streams = {
        (pid, tid)
        for (kind, pid, tid), name in names.items()
        if kind == "thread_name" and pid in devices and name.startswith("Stream")
    }
    found: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if event.get("ph") == "X" and (event["pid"], event.get("tid")) in streams:
            found[re.sub(r"[._]\d+$", "", event["name"])].append(event["dur"])
    kernels = [Kernel(name, len(times), sum(times)) for name, times in found.items()]
    return sorted(kernels, key=lambda kernel: -kernel.microseconds)


def profile(config: Any, steps: int, seeds: int = 1) -> tuple[float, list[Kernel]]:
    """Return the seconds of `steps` steps of so many seeds together, without the profiler, and their kernels."""
    runner, state = _start(config, max(config.train.batch_size * config.train.accumulation * steps, 8), seeds)
    state, _, _ = runner(state, 0, steps)
    state, _, seconds = runner(state, 0, steps)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            runner(state, 0, steps)
        traces = [json.loads(gzip.decompress(x.read_bytes())) for x in Path(folder).rglob("*.trace.json.gz")]
    kernels = [kernel for trace in traces for kernel in kernels_of(trace)]
    if not kernels:
        raise UserError(
            "the profiler saw no kernels of a GPU; allow it to read them (CUPTI), or run on another machine"
        )
    return seconds, kernels


def _start(config: Any, samples: int, seeds: int) -> tuple[DeviceSource, TrainState]:
    """Return what runs the steps, and the state before them."""
    if program_of(config) != "lm":
        return start_of_seeds(config, random_dataset(config.data.name, samples), seeds)
    setup = _language_setup(config, samples)
    if seeds > 1:
        raise UserError(f"--seeds={seeds} is for models of points; leave it out with a language model")
    return DeviceSource(setup, config), setup.template


def _language_setup(config: Any, samples: int) -> Setup:
    if config.data.name != "text" or config.data.tokenizer != "bytes":
        raise UserError(
            "random rows are made of bytes alone; choose a config of text without recall and with data.tokenizer=bytes"
        )
    return causal_lm.setup_of(config, causal_lm.random_data(config.data.length, samples))


def main() -> None:
    """Profile and print one table."""
    config = checked_config("configs/flare_elas.py")
    check_gpu()
    with program.matmul_precision(config):
        seconds, kernels = profile(config, FLAGS.steps, FLAGS.seeds)
    step, busy = 1e6 * seconds / FLAGS.steps, sum(x.microseconds for x in kernels) / FLAGS.steps
    launches = sum(x.launches for x in kernels) / FLAGS.steps
    name = config.name + (f", {FLAGS.seeds} seeds" if FLAGS.seeds > 1 else "")
    print(f"{name}: {device_line()}; a step takes {step:.0f} us, {launches:.0f} kernels run for {busy:.0f} us")
    rows = [(x.name[:60], f"{x.launches / FLAGS.steps:.1f}", f"{x.microseconds / FLAGS.steps:.1f}") for x in kernels]
    print_table(("kernel", "launches a step", "us a step"), rows[: FLAGS.rows])
    write_results(
        FLAGS.output,
        {
            "config": config.name,
            "seeds": FLAGS.seeds,
            "steps": FLAGS.steps,
            "step_us": step,
            "kernels": [x._asdict() for x in kernels],
        },
    )


if __name__ == "__main__":
    cli.define_flags()
    define_counts(
        steps=(50, "Optimizer steps under the profiler."),
        rows=(40, "Kernels that are printed."),
        seeds=(1, "Seeds that are trained together in one program."),
    )
    flags.DEFINE_string("output", None, "JSON file for the results.")
    cli.run(main)

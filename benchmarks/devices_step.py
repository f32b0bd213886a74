"""The measurements of `benchmarks.devices` in a process of their own: a training step on one mesh."""

import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from benchmarks.collectives import collectives, total_bytes, total_runs
from benchmarks.devices_cost import expected_bytes
from benchmarks.timing import device_line
from benchmarks.train_step import random_dataset, setup_of, time_steps
from experiments import cli, program
from experiments.training.costs import allocator_peak
from experiments.training.mesh import make_mesh


def handle(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what devices there are, or the figures of a training step, for the one name of the request.

    A step is described by `config`, `changes` of its options by their dotted names, `batch` and `points` of its random
    data, the mesh `data` x `along_points`, and the numbers of `steps` and `repeats`.
    """
    (name,) = request["names"]
    if name == "devices":
        yield {"name": name, "count": jax.device_count(), "platform": jax.default_backend(), "device": device_line()}
        return
    config = cli.load_config(request["config"])
    config.update_from_flattened_dict(request["changes"])
    config.train.batch_size = request["batch"]
    with program.matmul_precision(config):
        yield {"name": name, **_measure(config, request)}


def _measure(config: Any, request: dict[str, Any]) -> dict[str, Any]:
    steps, data, along_points = request["steps"], request["data"], request["along_points"]
    dataset = random_dataset(config.data.name, request["batch"] * steps, request["points"])
    setup = setup_of(config, dataset, make_mesh(data, along_points))
    runner, seconds, metrics = time_steps(setup, config, steps, request["repeats"])
    found, peak = collectives(runner.compiled_text(steps)), allocator_peak()
    hidden = [operation for operation in found if operation.meanwhile]
    return {
        "step_ms": 1e3 * seconds,
        "compile_s": runner.compile_seconds,
        "peak_gib": _gib(peak),
        "planned_gib": _gib(runner.temporary_bytes()),
        "bytes": total_bytes(found) / steps,
        "formula_bytes": expected_bytes(
            config.model, setup.packing.count, request["batch"] // data, data, along_points
        ),
        "sums": sum(total_runs(found).values()) / steps,
        "hidden_sums": sum(total_runs(hidden).values()) / steps,
        "loss": _finite(metrics["loss"]),
        "grad_norm": _finite(metrics["grad_norm"]),
    }  # fmt: skip


def _gib(size: int | None) -> float | None:
    return None if size is None else size / 2**30


def _finite(values: np.ndarray) -> float:
    """Return the value of the first step; raises ValueError where it is no number, for then nothing was trained."""
    if not math.isfinite(values[0]):
        raise ValueError(f"the first step gives {values[0]}; check the config")
    return float(values[0])

"""The measurements of `benchmarks.devices` in a process of their own: a training step on one mesh, sums of arrays."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from benchmarks.collectives import collectives, total_bytes, total_runs
from benchmarks.devices_cost import expected_sums
from benchmarks.timing import device_line, median_seconds
from benchmarks.train_step import random_dataset, setup_of, time_steps
from experiments import cli, program
from experiments.pdebench import models
from experiments.training.costs import allocator_peak
from experiments.training.mesh import make_mesh
from kernels import platform
from kernels._sharding import untyped_shard_map
from runtime.command import sentence


def handle(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what devices there are, what links them, or the figures of a training step, for the one name of a request.

    What devices there are is answered with what is wrong with the options of the models: those of `configs`, with
    `changes`. A link is that of the first `devices`. A step is described by `config`, `changes` of its options by their
    dotted names, `batch` and `points` of its random data, the mesh `data` x `along_points`, and the numbers of `steps`
    and `repeats`.
    """
    (name,) = request["names"]
    if name == "devices":
        here = {"count": jax.device_count(), "platform": platform(), "device": device_line()}
        yield {"name": name, **here, "refused": _refused(request["configs"], request["changes"])}
        return
    if name == "link":
        yield {"name": name, **_link(request["devices"])}
        return
    config = _config(request["config"], request["changes"])
    config.train.batch_size = request["batch"]
    with program.matmul_precision(config):
        yield {"name": name, **_measure(config, request)}


def _config(path: str, changes: dict[str, Any]) -> Any:
    config = cli.load_config(path)
    config.update_from_flattened_dict(changes)
    return config


def _refused(paths: Sequence[str], changes: dict[str, Any]) -> str:
    """Return why a model cannot have its options, "" where all can."""
    try:
        for path in paths:
            models.check_model(_config(path, changes))
    except ValueError as error:
        return sentence(error)
    return ""


def _measure(config: Any, request: dict[str, Any]) -> dict[str, Any]:
    steps, data, along_points = request["steps"], request["data"], request["along_points"]
    dataset = random_dataset(config.data.name, request["batch"] * steps, request["points"])
    setup = setup_of(config, dataset, make_mesh(data, along_points))
    runner, seconds, metrics = time_steps(setup, config, steps, request["repeats"])
    found, peak = collectives(runner.compiled_text(steps)), allocator_peak()
    hidden = [operation for operation in found if operation.meanwhile]
    formula = expected_sums(config.model, setup.packing.count, request["batch"] // data, data, along_points)
    return {
        "step_ms": 1e3 * seconds,
        "compile_s": runner.compile_seconds,
        "peak_gib": _gib(peak),
        "planned_gib": _gib(runner.temporary_bytes()),
        "bytes": total_bytes(found) / steps,
        "formula_bytes": None if formula is None else sum(formula),
        # Those of points that several devices would share, from which the times of more devices are predicted.
        "formula_sums": expected_sums(config.model, setup.packing.count, request["batch"], 1, 2),
        "sums": sum(total_runs(found).values()) / steps,
        "hidden_sums": sum(total_runs(hidden).values()) / steps,
        "loss": _finite(metrics["loss"]),
        "grad_norm": _finite(metrics["grad_norm"]),
    }  # fmt: skip


def _link(devices: int) -> dict[str, float]:
    """Return the seconds of a sum of 4 bytes, and the bytes per second that each device sends in a large sum."""
    small, large = 1, 2**24 if jax.default_backend() == "gpu" else 2**16
    seconds = {size: _seconds_of_a_sum(size, devices) for size in (small, large)}
    sent = 2 * (devices - 1) / devices * 4 * large
    bandwidth = sent / max(seconds[large] - seconds[small], 1e-9)
    return {"latency_s": seconds[small] / math.log2(devices), "bandwidth": bandwidth, "mebibytes": 4 * large / 2**20}


def _seconds_of_a_sum(size: int, devices: int) -> float:
    """Return the seconds of a sum of float32 arrays [size]; many after one another are timed, as a step has them."""
    rounds = 50
    mesh = jax.make_mesh((devices,), ("device",), devices=jax.devices()[:devices])

    def sums(x: jax.Array) -> jax.Array:
        # Scaled, so that no round can be left out; each waits for the one before.
        return jax.lax.fori_loop(0, rounds, lambda _, x: jax.lax.psum(x, "device") * jnp.float32(0.5), x)

    run = jax.jit(untyped_shard_map(sums, mesh, P("device"), P("device")))
    x = jax.device_put(jnp.ones(devices * size, jnp.float32), jax.NamedSharding(mesh, P("device")))
    return median_seconds(lambda: jax.block_until_ready(run(x)), repeats=5) / rounds


def _gib(size: int | None) -> float | None:
    return None if size is None else size / 2**30


def _finite(values: np.ndarray) -> float:
    """Return the value of the first step; raises ValueError where it is no number, for then nothing was trained."""
    if not math.isfinite(values[0]):
        raise ValueError(f"the first step gives {values[0]}; check the config")
    return float(values[0])

"""What a run costs: the time of a step and of an epoch, compilation, parameters, and memory at its peak."""

import math
import resource
import time
from typing import Any

import jax

from experiments.training.seed_run import SeedStates, grouped
from experiments.training.setup import Setup
from experiments.training.source import Source, open_source

# A measurement without training: chunks of at most so many steps, at least so many of them, and then until two epochs
# or so many seconds have passed.
_CHUNK_STEPS, _LEAST_CHUNKS, _EPOCHS, _SECONDS = 50, 3, 2, 10.0


def allocator_peak() -> int | None:
    """Return the largest number of bytes that the allocator of one of this process's devices has given out at a time.

    None where the backend does not count, as that of the CPU.
    """
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    return max((one["peak_bytes_in_use"] for one in stats if "peak_bytes_in_use" in one), default=None)


def resident_peak() -> int:
    """Return the largest number of bytes of memory that this process has held at a time."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def peak_memory() -> dict[str, Any]:
    """Return the bytes of memory at the peak, of the process since its start, and whose they are: device or process."""
    peak = allocator_peak()
    whose = "process" if peak is None else "device"
    return {"peak_bytes": resident_peak() if peak is None else peak, "peak_of": whose}


def costs(setup: Setup, source: Source) -> dict[str, Any]:
    """Return what the steps of `source` cost so far: `Source.timing`, seconds of an epoch, parameters, memory, device.

    The seconds of an epoch are those of its steps, without evaluations and checkpoints.
    """
    timing = source.timing()
    return {
        **timing,
        "epoch_s": 1e-3 * timing["step_ms"] * setup.plan.steps_per_epoch,
        "parameters": setup.packing.count,
        **peak_memory(),
        "device": jax.devices()[0].device_kind,
        "devices": setup.mesh.data * setup.mesh.points,
        "jax": jax.__version__,
    }


def describe(costs: dict[str, Any]) -> str:
    """Return the result of `costs` as one line, beside what `Source.describe` says."""
    return (
        f"{costs['parameters']:,} parameters, {costs['epoch_s']:.3g} s per epoch, "
        f"{costs['peak_bytes'] / 2**30:.2f} GiB at the peak ({costs['peak_of']})"
    )


def measure(setup: Setup, config: Any) -> tuple[dict[str, Any], str]:
    """Run training steps for about ten seconds, or two epochs, and return their costs, also as text; keeps nothing.

    Of seeds that are trained together a step is one of them all.
    """
    plan, repeats = setup.plan, setup.task.loss.repeats
    length = min(plan.steps, repeats * max(1, min(_CHUNK_STEPS, plan.steps_per_epoch // repeats)))
    places = len(grouped(config.train.seeds, config.train.parallel_seeds)[0])
    source = open_source(setup, config, places)
    state, step, steps, end = SeedStates([setup.template], places, setup.mesh).joined, 0, 0, math.inf
    try:
        while len(source.timings) < _LEAST_CHUNKS or (
            steps < _EPOCHS * plan.steps_per_epoch and time.monotonic() < end
        ):
            rest = plan.steps_per_epoch - step % plan.steps_per_epoch
            step = step if length <= rest else step + rest  # a chunk lies within an epoch
            step = step if step + length <= plan.steps else 0
            state, _, _ = source(state, step, step + length)
            step, steps = step + length, steps + length
            end = min(end, time.monotonic() + _SECONDS)  # from the first chunk on, which was compiled
        result = costs(setup, source) | ({"parallel_seeds": places} if places > 1 else {})
        return result, f"{source.describe()}\n{describe(result)}"
    finally:
        source.close()

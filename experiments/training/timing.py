"""What a run says of its speed: the time of a step without compilation, and the throughput."""

from collections.abc import Sequence

import numpy as np


def timing(timings: Sequence[tuple[int, float]], points_per_step: float, compile_seconds: float) -> dict[str, float]:
    """Return the median step time, the throughput, and the time spent in steps and in compilation.

    `timings` are numbers of steps and the seconds that they took together.
    """
    step_seconds = float(np.median([seconds / length for length, seconds in timings]))
    return {
        "step_ms": 1e3 * step_seconds,
        "points_per_s": points_per_step / step_seconds,
        "steps_s": sum(seconds for _, seconds in timings),
        "compile_s": compile_seconds,
    }


def describe_timing(values: dict[str, float], points: str) -> str:
    """Return the result of `timing` as one line; `points` is what its points are called."""
    return (
        f"steps: {values['step_ms']:.2f} ms each (median), {values['points_per_s']:.3g} {points}/s, "
        f"{values['steps_s']:.0f} s in all, compilation {values['compile_s']:.0f} s"
    )

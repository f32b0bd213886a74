"""What every benchmark shares: medians, the device line, results as JSON."""

import math
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from runtime.json_files import write_json


def device_line() -> str:
    """Return device, JAX version and Python version, printed above every table."""
    return f"{jax.devices()[0].device_kind}, jax {jax.__version__}, Python {platform.python_version()}"


def median_seconds(run: Callable[[], Any], repeats: int, warmup: int = 1) -> float:
    """Return the median wall time of `run`, which must wait for its own results."""
    for _ in range(warmup):
        run()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


# A timed sample lasts about this long, so that launching its first call and waiting for its last, 0.3 to 0.5 ms on the
# host of a GPU, do not count; there are at least this many, within the budget.
SAMPLE_SECONDS = 60e-3
FEWEST_SAMPLES = 3


def adaptive_seconds(
    sample: Callable[[int], float], budget: float, longest: float = 4.0, ceiling: float = math.inf
) -> float:
    """Return the median seconds per call, where `sample(calls)` makes that many calls and returns their seconds.

    One call warms up, and is the answer itself if it takes more than `longest` seconds. Then samples of several calls
    are taken for about `budget` seconds; a call of more than twice that, or of more than `ceiling`, is made once.
    """
    first = sample(1)
    if first > longest:
        return first
    single = max(sample(1), 1e-9)
    if single > min(2 * budget, ceiling):
        return single
    calls = max(1, min(1000, math.ceil(min(SAMPLE_SECONDS, budget / FEWEST_SAMPLES) / single)))
    repeats = max(FEWEST_SAMPLES, min(30, int(budget / (calls * single))))
    return statistics.median(sample(calls) / calls for _ in range(repeats))


def growth(before: tuple[int, float], points: int, power: int, longest: float) -> str:
    """Return why a call on `points` points is not made, empty if it is expected to take at most `longest` seconds.

    `before` is the number of points and the time of a smaller call, and the time grows with this power of the number.
    """
    expected = before[1] * (points / before[0]) ** power
    return f"left out: would take about {expected:.0f} s a call" if expected > longest else ""


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under a header in aligned columns."""
    widths = [max(len(str(row[i])) for row in (header, *rows)) for i in range(len(header))]
    for row in (header, *rows):
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), flush=True)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows under a header as a markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(str(cell).replace('|', '/') for cell in line)} |\n" for line in lines)


def write_results(path: str | None, results: dict[str, Any]) -> None:
    """Write the results as JSON where a path is given."""
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_json(Path(path), {"device": device_line(), **results})

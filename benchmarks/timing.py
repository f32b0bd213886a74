"""What every benchmark shares: medians, the device line, results as JSON."""

import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax


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


def peak_bytes() -> int | None:
    """Return the allocator's peak of device 0, None where the backend does not count."""
    stats = jax.devices()[0].memory_stats()
    return None if not stats else stats.get("peak_bytes_in_use")


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under a header in aligned columns."""
    widths = [max(len(str(row[i])) for row in (header, *rows)) for i in range(len(header))]
    for row in (header, *rows):
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), flush=True)


def write_results(path: str | None, results: dict[str, Any]) -> None:
    """Write the results as JSON where a path is given."""
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps({"device": device_line(), **results}, indent=2) + "\n")

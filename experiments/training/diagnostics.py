"""What mixers say of themselves in training: diagnostics.jsonl, a line per step, and diagnostics.json, its summary.

Statistics of a step travel with its metrics, under names that begin with `mixer/`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.training.packing import Params
from experiments.training.records import MetricsLog, read_log
from experiments.training.task import Batch, Task
from runtime.json_files import write_json

LINES, SUMMARY = "diagnostics.jsonl", "diagnostics.json"
_PREFIX = "mixer/"
_EVENT = "diagnostics"


def make_diagnosis(task: Task) -> Callable[[Params, Batch, Array, Array], dict[str, Array]]:
    """Return `diagnose(params, batches, key, step)`: the numbers of a step's first batch, empty without diagnostics.

    They are computed at steps whose number (from 0) is a multiple of `task.diagnostics_every`, and are 0 at others.
    """
    if not task.diagnostics_every:
        return lambda params, batches, key, step: {}

    def diagnose(params: Params, batches: Batch, key: Array, step: Array) -> dict[str, Array]:
        count = len(next(iter(batches.values())))
        key = key if count == 1 else jax.random.split(key, count)[0]

        def numbers() -> dict[str, Array]:
            found = task.diagnostics(params, {name: value[0] for name, value in batches.items()}, key)
            return {_PREFIX + name: value.astype(jnp.float32) for name, value in flat(found).items()}

        zeros = {name: jnp.zeros(value.shape, value.dtype) for name, value in jax.eval_shape(numbers).items()}
        return jax.lax.cond(step % task.diagnostics_every == 0, numbers, lambda: zeros)

    return diagnose


def flat(statistics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the statistics of `blocks` and their `mean` by names such as blocks/0/rms_k and mean/rms_k."""
    blocks = {
        f"blocks/{i}/{name}": value for i, block in enumerate(statistics["blocks"]) for name, value in block.items()
    }
    return blocks | {f"mean/{name}": value for name, value in statistics["mean"].items()}


class DiagnosticsLog:
    """Writes the statistics of every `every` steps of the run in `folder`, None on processes that keep no log."""

    def __init__(self, folder: Path | None, every: int, resume_step: int, say: Callable[[str], None]) -> None:
        self._folder, self._every, self._say = folder, every, say
        self._log = MetricsLog(folder and folder / LINES, resume_step, say) if every else None

    def write(self, values: Mapping[str, np.ndarray], first: int) -> None:
        """Write what the metrics of steps `first`, … hold; null stands for numbers that are not finite."""
        if self._log is None:
            return
        series = {name.removeprefix(_PREFIX): value for name, value in values.items() if name.startswith(_PREFIX)}
        for place in range(-first % self._every, len(next(iter(series.values()))), self._every):
            self._log.write(_EVENT, first + place + 1, nested({name: float(v[place]) for name, v in series.items()}))

    def close(self) -> None:
        """Write the summary: how many lines there are, and the first with a number that is finite no more."""
        if self._log is None or self._folder is None:
            return
        lines = read_log(self._folder / LINES, self._say)
        if lines:
            write_json(self._folder / SUMMARY, summary(lines))


def nested(numbers: Mapping[str, float]) -> dict[str, Any]:
    """Undo `flat`."""
    parts = [(*name.split("/"), value) for name, value in numbers.items()]
    count = 1 + max(int(part[1]) for part in parts if part[0] == "blocks")
    blocks = [{part[2]: part[3] for part in parts if part[:2] == ("blocks", str(i))} for i in range(count)]
    return {"mean": {part[1]: part[2] for part in parts if part[0] == "mean"}, "blocks": blocks}


def summary(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the number of lines, the mean statistics of the last, and where the first number stopped being finite.

    Numbers that are not defined from the first line on, such as the gate of a mixer without one, do not count.
    """
    there = {name for name, value in flat(lines[0]).items() if value is not None}
    lost = ((line["step"], sorted(name for name in there if flat(line)[name] is None)) for line in lines)
    step, names = next(((step, names) for step, names in lost if names), (None, []))
    return {"lines": len(lines), "last": lines[-1]["mean"], "first_not_finite": {"step": step, "names": names}}

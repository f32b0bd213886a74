"""Learning-rate and first-moment schedules as functions of the 0-based optimizer step.

OneCycle follows Smith & Topin (arXiv 1708.07120) with the phase boundaries of the original's training: they are real
numbers (`pct_start · steps − 1`), and the first moment coefficient runs the inverse cycle.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from experiments.errors import UserError

Schedule = Callable[[ArrayLike], Any]

SCHEDULES = ("onecycle", "constant", "cosine", "cosine_restarts")
ANNEALS = ("cos", "linear")
_KEPT = 64  # schedules of a process whose programs are kept


@dataclass(frozen=True)
class OneCycle:
    """Warm-up to `peak` and annealing to `peak / (div_factor · final_div_factor)` over `steps` optimizer steps."""

    peak: float
    steps: int
    pct_start: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    three_phase: bool = False
    anneal: str = "cos"
    base_momentum: float = 0.85
    max_momentum: float = 0.95

    def learning_rate(self, step: ArrayLike) -> Any:
        """Return the learning rate that optimizer step `step` (from 0) uses."""
        initial = self.peak / self.div_factor
        final = initial / self.final_div_factor
        values = (initial, self.peak, initial, final) if self.three_phase else (initial, self.peak, final)
        return self._interpolate(step, values)

    def momentum(self, step: ArrayLike) -> Any:
        """Return the first-moment coefficient (beta1 of Adam) that step `step` uses."""
        high, low = self.max_momentum, self.base_momentum
        return self._interpolate(step, (high, low, high, high) if self.three_phase else (high, low, high))

    def _boundaries(self) -> tuple[float, ...]:
        """Return the steps at which the phases end; they need not be whole numbers."""
        warm = self.pct_start * self.steps - 1
        if self.three_phase:
            return (warm, 2 * self.pct_start * self.steps - 2, self.steps - 1)
        return (warm, self.steps - 1)

    def _interpolate(self, step: ArrayLike, values: tuple[float, ...]) -> Any:
        """Anneal through `values`, one per boundary, the first of which is at step 0."""
        ends = self._boundaries()
        starts = (0.0, *ends[:-1])
        result = jnp.asarray(values[-1], jnp.float32)
        for start, end, before, after in reversed(list(zip(starts, ends, values[:-1], values[1:], strict=True))):
            fraction = jnp.clip((jnp.asarray(step, jnp.float32) - start) / max(end - start, 1e-12), 0.0, 1.0)
            result = jnp.where(step <= end, _anneal(self.anneal, before, after, fraction), result)
        return result


def _anneal(kind: str, before: float, after: float, fraction: Any) -> Any:
    # A weighted mean, not an increment on one end: the ends differ by up to 10^8 and float32 would lose the small one.
    weight = 1 - fraction if kind == "linear" else (1 + jnp.cos(math.pi * fraction)) / 2
    return before * weight + after * (1 - weight)


@functools.lru_cache(maxsize=2 * _KEPT)
def compiled(*schedules: Schedule) -> Callable[[ArrayLike], tuple[Any, ...]]:
    """Return the values of all these schedules as one program, for where they are asked for what is logged."""
    return jax.jit(lambda step: tuple(schedule(step) for schedule in schedules))


def build_schedules(schedule: Any, learning_rate: float, steps: int, period: int) -> tuple[Schedule, Any]:
    """Return the learning-rate schedule and the beta1 schedule (None where the schedule leaves beta1 alone).

    `schedule` is the config section of that name. The cosine schedules advance once in `period` steps: those of an
    epoch, as in the original, or 1 for runs whose length is given in steps. Equal schedules are the same functions, for
    which JAX compiles one program.
    """
    if schedule.name == "onecycle":
        one_cycle = _shared(_one_cycle(schedule, learning_rate, steps))
        return one_cycle.learning_rate, one_cycle.momentum if schedule.cycle_momentum else None
    if schedule.name == "constant":
        return _constant(learning_rate), None
    if schedule.name in ("cosine", "cosine_restarts"):
        return _cosine(learning_rate, max(1, -(-steps // period)), period), None
    raise UserError(f"schedule.name={schedule.name!r} is not known; choose one of {', '.join(SCHEDULES)}")


@functools.lru_cache(maxsize=_KEPT)
def scaled(schedule: Schedule, factor: float) -> Schedule:
    """Return the schedule of `factor` times the values."""
    return lambda step: factor * schedule(step)


@functools.lru_cache(maxsize=_KEPT)
def _shared(cycle: OneCycle) -> OneCycle:
    return cycle


@functools.lru_cache(maxsize=_KEPT)
def _constant(learning_rate: float) -> Schedule:
    return lambda step: jnp.full((), learning_rate, jnp.float32)


def _one_cycle(schedule: Any, learning_rate: float, steps: int) -> OneCycle:
    if schedule.anneal not in ANNEALS:
        raise UserError(f"schedule.anneal={schedule.anneal!r} is not known; choose one of {', '.join(ANNEALS)}")
    div_factor, final_div_factor = schedule.div_factor, schedule.final_div_factor
    if schedule.min_learning_rate > 0:
        div_factor, final_div_factor = learning_rate / schedule.min_learning_rate, 1.0
    return OneCycle(
        peak=learning_rate,
        steps=steps,
        pct_start=schedule.pct_start,
        div_factor=div_factor,
        final_div_factor=final_div_factor,
        three_phase=schedule.three_phase,
        anneal=schedule.anneal,
        base_momentum=schedule.base_momentum,
        max_momentum=schedule.max_momentum,
    )


@functools.lru_cache(maxsize=_KEPT)
def _cosine(learning_rate: float, periods: int, period: int) -> Schedule:
    """One half cosine from `learning_rate` to 0; with restarts after all of it the two named schedules coincide."""

    def schedule(step: ArrayLike) -> Any:
        return learning_rate / 2 * (1 + jnp.cos(math.pi * (jnp.asarray(step) // period) / periods))

    return schedule

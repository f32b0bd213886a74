"""The search of one kernel's launch: which candidates are tried, in which order, and which one wins."""

import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from benchmarks.search_jax import SPACES, make_shape

# Largest RMS error of a launch that may win.
TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2}
# The share of a kernel's time after which no further tiles are tried.
TILE_SHARE = 0.6
# How many of the fastest are compared with the definition, until one agrees.
CHECKED = 4


class SearchCase(NamedTuple):
    """One op at one shape, dtype and implementation."""

    op: str
    name: str
    sizes: tuple[int, ...]
    dtype: str
    implementation: str

    @property
    def label(self) -> str:
        return f"{self.op} {self.name} {self.dtype} {self.implementation}"

    @property
    def shape(self) -> Any:
        return make_shape(self.op, list(self.sizes))

    @property
    def space(self) -> Any:
        """The module with the op's candidates."""
        return SPACES[self.op]


class Trial(NamedTuple):
    """A launch and its time, infinite with the reason where it has none."""

    launch: Any
    seconds: float
    error: str = ""


Ask = Callable[[str, list[Any]], list[dict[str, Any]]]


class Search:
    """The search of one kernel; `ask(task, launches)` measures, `save(record)` is told after every group."""

    def __init__(self, case: SearchCase, kernel: str, start: Any, ask: Ask, save: Callable[[dict[str, Any]], None]):
        self.case, self.kernel, self.start = case, kernel, start
        self._ask, self._save = ask, save
        self.trials: dict[Any, Trial] = {}

    def run(self, deadline: float, group: int) -> Any:
        """Return the fastest launch found until `deadline`, `start` if none runs."""
        space, shape, dtype = self.case.space, self.case.shape, self.case.dtype
        begin = time.monotonic()
        tiles_until = begin + TILE_SHARE * (deadline - begin)
        self._try_all(space.tile_candidates(shape, dtype, self.kernel, self.start), tiles_until, group)
        best = [trial.launch for trial in self.ranking()[:2]]
        self._try_all(space.launch_candidates(shape, dtype, self.kernel, best), deadline, group)
        return self.ranking()[0].launch if self.ranking() else self.start

    def fastest_correct(self, start: Any) -> Any:
        """Return `start` with the fastest launch of this kernel that agrees with the definition of the op."""
        for trial in self.ranking()[:CHECKED]:
            launch = self.case.space.with_kernel(start, self.kernel, trial.launch)
            if is_correct(self.case, launch, self._ask):
                return launch
        return start

    def ranking(self) -> list[Trial]:
        """Return the launches that ran, the fastest first."""
        ran = [trial for trial in self.trials.values() if math.isfinite(trial.seconds)]
        return sorted(ran, key=lambda trial: trial.seconds)

    def _try_all(self, candidates: Iterable[Any], deadline: float, group: int) -> None:
        """Time candidates in groups; the first group always."""
        fresh = (x for x in dict.fromkeys(candidates) if x not in self.trials)
        while batch := list(itertools.islice(fresh, group)):
            if self.trials and time.monotonic() > deadline:
                return
            for launch, answer in zip(batch, self._ask("time", batch), strict=True):
                seconds = answer.get("seconds", math.inf)
                self.trials[launch] = Trial(launch, seconds, answer.get("error", ""))
            fastest = self.ranking()[:1]
            best = (
                f"{1e6 * fastest[0].seconds:.1f} us {describe(fastest[0].launch, self.kernel)}" if fastest else "none"
            )
            print(f"  {self.kernel}: {len(self.trials)} tried, best {best}", flush=True)
            self._save(self.record())

    def record(self) -> dict[str, Any]:
        """Return everything tried, the fastest first, as JSON."""
        failed = [trial for trial in self.trials.values() if not math.isfinite(trial.seconds)]
        return {
            "start": describe(self.start, self.kernel),
            "tried": [
                {
                    "launch": describe(trial.launch, self.kernel),
                    "seconds": trial.seconds if math.isfinite(trial.seconds) else None,
                    **({"error": trial.error} if trial.error else {}),
                }
                for trial in (*self.ranking(), *failed)
            ],
        }


def is_correct(case: SearchCase, launch: Any, ask: Ask) -> bool:
    """Return whether the op agrees with its definition, forward and backward; print why not."""
    (answer,) = ask("check", [launch])
    correct = answer.get("rms", math.inf) <= TOLERANCE[case.dtype]
    if not correct:
        print(f"  not confirmed: {answer.get('rms', answer.get('error'))} {launch}", flush=True)
    return correct


def describe(launch: Any, kernel: str) -> str:
    """Return the part of the launches that belongs to one kernel, and what all kernels share."""
    # What another kernel has is a dataclass without a default.
    others = {x.name for x in dataclasses.fields(launch) if x.default is dataclasses.MISSING}
    shared = {k: v for k, v in vars(launch).items() if not (dataclasses.is_dataclass(v) and k in others)}
    return f"{getattr(launch, kernel)}" + "".join(f", {key}={value!r}" for key, value in shared.items())

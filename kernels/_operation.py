"""What an operation is: its implementations, which of them runs where, and how its kernels are launched.

Everything that depends on the arguments alone is decided, and refused, when an operation is called; what depends on the
device is decided when the program is lowered for it (`kernels._target`). Nothing else enters a choice.
"""

import abc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from kernels._array_code import wants_array_code
from kernels._checks import check_axis
from kernels._implementation import Implementation, Request
from kernels._target import Target, on_target
from kernels._tiles import padded_width
from kernels._triton_lowering import why_unavailable

H100 = "H100 80GB, jax 0.11.2, 2026-11"
H200 = "H200, jax 0.11.2, 2026-11"
NOT_MEASURED = "not measured: from registers and occupancy of the compiled kernels"


@dataclass(frozen=True)
class Launch:
    """How the kernels of one implementation are launched, for one dtype, widths up to `width`, at most `points` points.

    The GPU must have at least this compute capability, and the shared memory that the `blocks` estimate. `measured`
    says where and when the row was found to be the fastest. A launch for a `trial` is taken whether it fits or not.
    """

    dtype: str
    width: int
    blocks: Any
    points: int | None = None
    implementation: str = "pallas"
    capability: tuple[int, int] = (8, 0)
    measured: str = NOT_MEASURED
    trial: bool = False

    @property
    def shared_memory(self) -> int:
        """Bytes of shared memory that a program of the most demanding kernel has; 0 where blocks fit themselves."""
        item = 2 if self.dtype == "bfloat16" else 4
        kernels = [x for x in (self.blocks, *vars(self.blocks).values()) if hasattr(x, "shared_bytes")]
        return max((x.shared_bytes(padded_width(self.width), item) for x in kernels), default=0)

    def suits(self, implementation: str, request: Request) -> bool:
        """Return whether the row is for this request."""
        return (
            (self.implementation, self.dtype) == (implementation, request.dtype)
            and request.width <= self.width
            and (self.points is None or request.points <= self.points)
        )

    def fits(self, target: Target) -> bool:
        """Return whether the GPU of the target can run it; an interpreter can."""
        if target.platform != "cuda" or self.trial:
            return True
        return self.capability <= target.capability and self.shared_memory <= target.shared_memory


@dataclass(frozen=True)
class Choice:
    """What `implementation=None` means on one platform, for these dtypes, widths and numbers of points up to these.

    There must be at least `fewest` points. The GPU must have at least this compute capability and bytes of shared
    memory for one program. `measured` says where and when this was found to be faster than the fallback.
    """

    implementation: str
    dtypes: tuple[str, ...]
    width: int
    points: int | None = None
    platform: str = "cuda"
    capability: tuple[int, int] = (8, 0)
    shared_memory: int = 0
    measured: str = H100
    fewest: int = 0

    def fits(self, target: Target) -> bool:
        """Return whether the row is for this platform and its GPU."""
        gpu = self.capability <= target.capability and self.shared_memory <= target.shared_memory
        return self.platform == target.platform and (target.platform != "cuda" or gpu)

    def suits(self, request: Request) -> bool:
        """Return whether the row is for this request."""
        return (
            request.dtype in self.dtypes
            and request.width <= self.width
            and self.fewest <= request.points <= (request.points if self.points is None else self.points)
        )


@dataclass(frozen=True)
class Served:
    """What runs: an implementation, and the launch of its kernels if it has kernels."""

    implementation: str
    launch: Launch | None = None

    @property
    def blocks(self) -> Any:
        """The launch of the kernels."""
        return self.launch.blocks

    def __str__(self) -> str:
        if self.launch is None:
            return self.implementation
        points = "" if self.launch.points is None else f", up to {self.launch.points} points"
        row = f"{self.launch.dtype}, width up to {self.launch.width}{points}"
        return f"{self.implementation} as in the row for {row} ({self.launch.measured})"


@dataclass(frozen=True)
class Operation:
    """One operation. Of `choices` and `launches` the first row that suits decides; `fallback` serves everything.

    After a launch may come others for the same dtype and sizes, for GPUs with less memory for a program.
    """

    name: str
    implementations: tuple[Implementation, ...]
    choices: tuple[Choice, ...] = ()
    launches: tuple[Launch, ...] = ()
    fallback: str = "xla"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the implementations."""
        return tuple(x.name for x in self.implementations)

    def __getitem__(self, name: str) -> Implementation:
        return next(x for x in self.implementations if x.name == name)

    def resolve(self, implementation: str | None, request: Request) -> "Selection":
        """Return what may run, or raise ValueError where a named implementation cannot serve the request anywhere."""
        if wants_array_code():
            implementation = "reference"
        no_triton_lowering = why_unavailable()
        if implementation is not None and implementation not in self.names:
            raise ValueError(
                f"implementation is {implementation!r}; give one of {', '.join(self.names)}, or None to choose one."
            )
        if implementation is not None:
            self[implementation].check(request, self.fallback, no_triton_lowering)
        check_axis(request.axis_name, self.name)
        return Selection(self, implementation, request, no_triton_lowering is None)

    def with_launch(self, blocks: Any) -> "Operation":
        """Return the operation with these blocks in every launch, for tests and searches."""
        pairs = dict.fromkeys((row.implementation, row.dtype) for row in self.launches)
        rows = (Launch(dtype, 2**30, blocks, implementation=name, trial=True) for name, dtype in pairs)
        return replace(self, launches=tuple(rows))

    def launch_for(self, implementation: str, request: Request) -> Launch | None:
        """Return the row of launches for this request, None for an implementation without kernels."""
        return next(iter(self.launches_for(implementation, request)), None)

    def launches_for(self, implementation: str, request: Request) -> tuple[Launch, ...]:
        """Return the rows of launches that may be taken for this request, the fastest first."""
        rows = [row for row in self.launches if row.suits(implementation, request)]
        return tuple(row for row in rows if (row.width, row.points) == (rows[0].width, rows[0].points))


@dataclass(frozen=True)
class Selection:
    """An operation, the implementation that the caller named or None, and the request; static in a traced program.

    `triton_lowering` is whether Pallas' Triton lowering may be used.
    """

    operation: Operation
    implementation: str | None
    request: Request
    triton_lowering: bool = True

    @property
    def candidates(self) -> tuple[str, ...]:
        """All implementations that may run, on whatever device."""
        if self.implementation is not None:
            return (self.implementation,)
        return tuple(dict.fromkeys([self.operation.fallback, *(x.implementation for x in self._choices())]))

    def _choices(self) -> Iterator[Choice]:
        for choice in self.operation.choices:
            implementation = self.operation[choice.implementation]
            absent = not self.triton_lowering if implementation.pallas_triton else implementation.lacks_mosaic()
            if not absent and choice.suits(self.request) and implementation.serves(self.request):
                yield choice

    def on(self, target: Target) -> Served:
        """Return what runs on the target, or raise ValueError where a named implementation cannot run there."""
        operation, fallback = self.operation, self.operation.fallback
        if self.implementation is None:
            for choice in self._choices():
                launch = self._launch(choice.implementation, target)
                runs = choice.fits(target) and operation[choice.implementation].runs_on(target)
                if runs and (launch is None or launch.fits(target)):
                    return Served(choice.implementation, launch)
            return Served(fallback)
        operation[self.implementation].check_target(target, fallback)
        launch = self._launch(self.implementation, target)
        if launch is not None and not launch.fits(target):
            needed = ".".join(map(str, launch.capability))
            raise ValueError(
                f"implementation {self.implementation!r} needs an NVIDIA GPU of compute capability {needed} with "
                f"{launch.shared_memory // 1024} KiB of shared memory here, and this is an {target}, with "
                f"{target.shared_memory // 1024} KiB; use implementation {fallback!r}."
            )
        return Served(self.implementation, launch)

    def _launch(self, implementation: str, target: Target) -> Launch | None:
        """Return the first launch that fits the target, the last one where none does."""
        rows = self.operation.launches_for(implementation, self.request)
        return next((row for row in rows if row.fits(target)), rows[-1] if rows else None)


@dataclass(frozen=True)
class Backends(abc.ABC):
    """The code of an operation's implementations, of which the target of the program takes one; static."""

    selection: Selection

    @abc.abstractmethod
    def on(self, target: Target) -> Any:
        """Return the object whose methods run on the target."""

    def run(self, method: Callable[..., Any], *operands: Any, **settings: Any) -> Any:
        """Return `method` of the target's backend for trees of arrays; `settings` are static."""
        return on_target(_run, *operands, static=(self, method.__name__, tuple(settings.items())))


def _run(backends: Backends, method: str, settings: tuple[tuple[str, Any], ...], target: Target, *operands: Any) -> Any:
    return getattr(backends.on(target), method)(*operands, **dict(settings))

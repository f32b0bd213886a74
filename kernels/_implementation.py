"""What a call of an operation asks for, and what one implementation of it can serve."""

import importlib.util
from dataclasses import dataclass

import jax

from kernels import _mosaic
from kernels._checks import DTYPES
from kernels._target import Target


@dataclass(frozen=True)
class Request:
    """What a call asks for, as far as a choice depends on it: dtype, largest head width, points, mesh axis, mask."""

    dtype: str
    width: int
    points: int = 1
    axis_name: str | None = None
    masked: bool = False


@dataclass(frozen=True)
class Implementation:
    """What one implementation can serve: dtypes, head widths up to `width`, platforms, points split over a mesh axis.

    `packages` are optional ones that it needs, of the extra with its name. With `mask_column` a mask takes one column
    of a head. With `pallas_triton` its kernels are compiled by Pallas' Triton lowering, with `mosaic`
    by Mosaic GPU, for Hopper.
    """

    name: str
    dtypes: tuple[str, ...] = DTYPES
    width: int | None = None
    platforms: tuple[str, ...] | None = None
    merges: bool = True
    packages: tuple[str, ...] = ()
    mask_column: bool = False
    pallas_triton: bool = False
    mosaic: bool = False

    def missing(self) -> list[str]:
        """Return its packages that are not installed."""
        return [name for name in self.packages if importlib.util.find_spec(name) is None]

    def serves(self, request: Request) -> bool:
        """Return whether it can serve the request on some device."""
        return request.dtype in self.dtypes and request.width <= self._widest(request) and not self.missing()

    def _widest(self, request: Request) -> float | int:
        return float("inf") if self.width is None else self.width - (self.mask_column and request.masked)

    def check(self, request: Request, fallback: str, no_triton_lowering: str | None) -> None:
        """Raise ValueError unless it can serve the request on some device; see `Selection`."""
        if self.pallas_triton and no_triton_lowering is not None:
            raise ValueError(
                f"implementation {self.name!r} needs Pallas' Triton lowering, which {no_triton_lowering}; "
                f"use implementation {fallback!r}."
            )
        if reason := self.lacks_mosaic():
            raise ValueError(
                f"implementation {self.name!r} needs Mosaic GPU, which {reason}; use implementation {fallback!r}."
            )
        if request.axis_name is not None and not self.merges:
            raise ValueError(
                f"axis_name is {request.axis_name!r}, over which {self.name!r} cannot merge; use {fallback!r} instead."
            )
        if request.dtype not in self.dtypes:
            raise ValueError(
                f"implementation {self.name!r} takes {' or '.join(self.dtypes)}, not {request.dtype}; "
                f"use implementation {fallback!r}."
            )
        if request.width > self._widest(request):
            mask = f", with a mask {self.width - 1}" if self.mask_column else ""
            raise ValueError(
                f"implementation {self.name!r} takes head widths up to {self.width}{mask}, not {request.width}; "
                f"use implementation {fallback!r}."
            )

    def lacks_mosaic(self) -> str | None:
        """Say why this JAX cannot compile its kernels by Mosaic GPU, None where it can or where it has none."""
        return _mosaic.why_unavailable() if self.mosaic else None

    def runs_on(self, target: Target) -> bool:
        """Return whether a CUDA GPU is one that its kernels are written for."""
        return not self.mosaic or target.platform != "cuda" or target.capability[0] == _mosaic.CAPABILITY

    def check_target(self, target: Target, fallback: str) -> None:
        """Raise ValueError unless it runs on the target and its packages are installed."""
        if self.platforms is not None and target.platform not in self.platforms:
            raise ValueError(
                f"implementation {self.name!r} needs an NVIDIA GPU, and this is a {target.platform}; "
                f"use implementation {fallback!r}."
            )
        if not self.runs_on(target):
            raise ValueError(
                f"implementation {self.name!r} needs an NVIDIA GPU of compute capability {_mosaic.CAPABILITY}, and "
                f"this is an {target}; use implementation {fallback!r}."
            )
        if self.pallas_triton and not target.compiled and jax.config.jax_enable_x64:
            raise ValueError(
                f"implementation {self.name!r} is interpreted by JAX on a {target.platform}, which cannot while "
                f"jax_enable_x64 is set; use implementation {fallback!r}, or unset it."
            )
        if missing := self.missing():
            raise ValueError(
                f"implementation {self.name!r} needs {' and '.join(missing)}, not installed here; "
                f"run pip install 'flare_jax[{self.name}]', or use implementation {fallback!r}."
            )

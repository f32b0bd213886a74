"""What the searches of all operations do with launches: from JSON, one kernel of them, and runs with gradients."""

import dataclasses
import typing
from collections.abc import Callable, Mapping
from typing import Any

import jax


def rebuild(kind: type, values: Mapping[str, Any]) -> Any:
    """Undo `dataclasses.asdict` of an instance of `kind`, whose fields may be dataclasses again, or those or None."""
    hints = typing.get_type_hints(kind)
    return kind(
        **{
            name: value if (inner := _dataclass(hints[name])) is None or value is None else rebuild(inner, value)
            for name, value in values.items()
        }
    )


def _dataclass(hint: Any) -> type | None:
    """Return the dataclass that a field has, or may have beside None."""
    return next((x for x in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(x)), None)


def replace_kernel(start: Any, kernel: str, launch: Any) -> Any:
    """Return `start` with the launch of one kernel taken from `launch`."""
    return dataclasses.replace(start, **{kernel: getattr(launch, kernel)})


def replace_kernel_of_linear_attention(start: Any, kernel: str, launch: Any) -> Any:
    """Return `start` with one kernel of `launch`; what all kernels share, with or without decay, comes with the mix."""
    shared = {"programs": launch.programs, "exact": launch.exact} if kernel == "mix" else {}
    return dataclasses.replace(replace_kernel(start, kernel, launch), **shared)


def with_gradients(call: Callable[..., jax.Array], operands: tuple[Any, ...]) -> Any:
    """Return the output and the gradients of `call`; the last of the operands stands in for the cotangent."""
    y, pull_back = jax.vjp(call, operands)
    return y, pull_back(operands[-1])

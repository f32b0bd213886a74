"""The one place that calls Triton kernels, so that a change of jax-triton is one edit.

jax-triton and triton are the optional packages of the extra `[triton]`: they are imported when a kernel is launched,
and so are modules with `@triton.jit` functions. A launch has no rules for batching
and differentiation, so operations wrap themselves in `custom_vjp` and in `fold_vmap`.
"""

import importlib.util
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kernels._target import Target

PACKAGES = ("triton", "jax_triton")


def triton_available() -> bool:
    """Return whether the packages that Triton kernels need are installed."""
    return all(importlib.util.find_spec(name) is not None for name in PACKAGES)


def triton_call(
    kernel: Any,
    *,
    target: Target,
    name: str,
    grid: tuple[int, ...],
    out_shape: Sequence[jax.ShapeDtypeStruct],
    constants: Mapping[str, Any],
    num_warps: int = 4,
    num_stages: int = 2,
) -> Callable[..., list[jax.Array]]:
    """Return the function that launches the `@triton.jit` function `kernel` on `grid` and returns its outputs.

    The parameters of `kernel` are the operands, then the outputs, in order, then `constants` by name, which are its
    `tl.constexpr`. Operands are arrays or Python numbers.
    """

    def launch(*operands: jax.Array | float | int) -> list[jax.Array]:
        import jax_triton

        return jax_triton.triton_call(
            *operands,
            kernel=kernel,
            name=name,
            grid=grid,
            **_named_as_in(jax_triton.triton_call, [jax.ShapeDtypeStruct(s.shape, s.dtype) for s in out_shape]),
            num_warps=num_warps,
            num_stages=num_stages,
            compute_capability=10 * target.capability[0] + target.capability[1],
            **constants,
        )

    return launch


def _named_as_in(call: Callable[..., Any], outputs: list[jax.ShapeDtypeStruct]) -> dict[str, Any]:
    """Return the arguments of a launch that jax-triton 0.4 names otherwise than 0.3, on which Python 3.11 stays.

    Multiply-adds are asked for: from Triton 3.10 on they are not the default.
    """
    if "out_type" in inspect.signature(call).parameters:
        return {"out_type": outputs, "backend_options": {"enable_fp_fusion": True}}
    return {"out_shape": outputs, "enable_fp_fusion": True}


def fold_vmap(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` with a rule for `jax.vmap` that folds the mapped axis into the batch.

    All operands and all outputs must be arrays whose first axis is the batch.
    """
    folded = jax.custom_batching.custom_vmap(function)

    @folded.def_vmap
    def fold(size: int, mapped: Sequence[bool], *operands: jax.Array) -> tuple[Any, Any]:
        whole = [
            x if is_mapped else jnp.broadcast_to(x, (size, *x.shape))
            for x, is_mapped in zip(operands, mapped, strict=True)
        ]
        outputs = folded(*[x.reshape(-1, *x.shape[2:]) for x in whole])
        outputs = jax.tree.map(lambda x: x.reshape(size, -1, *x.shape[1:]), outputs)
        return outputs, jax.tree.map(lambda x: True, outputs)

    return folded

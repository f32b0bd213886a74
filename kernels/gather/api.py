"""The public entry of the gather: checks the arguments, chooses the implementation, calls it."""

from dataclasses import dataclass

from jax import lax
from jaxtyping import Array, Bool, Float

from kernels._checks import (
    as_largest,
    check_are_arrays,
    check_dtypes,
    check_latents,
    check_mask,
    check_points,
    check_precision,
    check_same_points,
    check_scale,
)
from kernels._implementation import Request
from kernels._operation import Backends
from kernels._sharding import vary_alike
from kernels._target import Target
from kernels.gather import table
from kernels.gather.backend import Backend, attend
from kernels.gather.chunked import ChunkedBackend
from kernels.gather.operands import Operands
from kernels.gather.pallas import PallasBackend
from kernels.gather.reference import reference_gather


def gather(
    q: Float[Array, "H M D"] | Float[Array, "B H M D"],
    k: Float[Array, "B N H D"],
    v: Float[Array, "B N H C"] | None = None,
    *,
    scale: float | int = 1.0,
    mask: Bool[Array, "B N"] | None = None,
    largest_key: float | Float[Array, ""] | None = None,
    axis_name: str | None = None,
    implementation: str | None = None,
    precision: str | lax.Precision | None = "highest",
) -> Float[Array, "B H M _"]:
    """Let latents read points: `z = softmax_N(scale q kᵀ) v`, in float32.

    q holds the queries of the latents, shared by the batch or one set per sample; k and v the keys and values of the
    points (`C` is the width of a value, usually D). Without v the values are the keys. `mask` is True for real points:
    the others take no part, whatever they hold, and a sample without real points has z = 0. All float arrays share one
    dtype; softmaxes and sums are float32.

    `largest_key` is a number that the norm of no key exceeds, where the caller knows one, as of normalised keys: the
    kernels need not look for the largest entry then, and may take a bound of the logits for their maximum. Entries far
    beyond it become infinite.

    `axis_name` is the mesh axis over which the points are sharded when called inside `jax.shard_map` (not
    "reference"); z is then the same on all its devices. `implementation` is "reference", "xla" or "pallas"; None
    chooses by device, dtype and shape.

    With `precision="default"` the kernels' products take 11 bits of float32 operands, as TF32 does; sums and softmaxes
    are float32 all the same. None stands for the configured precision.

    Raises ValueError for shapes or dtypes that do not fit, a scale that is not positive and finite, an unknown
    implementation, and a named implementation that cannot serve the request.

    Source: FLARE++, arXiv 2608.11519 (query synthesis); the maths of both directions is in README.md.
    """
    scale = check_scale(scale)
    operands = Operands(q, k, v, mask, as_largest(largest_key))
    backends = select(operands, implementation, axis_name, precision)
    if backends.selection.implementation == "reference":
        return reference_gather(operands, scale=scale)
    return attend(vary_alike(operands), backends, scale, axis_name)


def select(
    operands: Operands, implementation: str | None, axis_name: str | None, precision: str | lax.Precision | None
) -> "SelectedBackends":
    """Check the operands and return the backends of what may run, as the arguments of `gather` say."""
    _check(operands)
    k, values = operands.k, operands.values
    masked = operands.mask is not None
    request = Request(k.dtype.name, max(k.shape[-1], values.shape[-1]), k.shape[1], axis_name, masked=masked)
    selection = table.OPERATION.resolve(implementation, request)
    return SelectedBackends(selection, coarse=check_precision(precision) == lax.Precision.DEFAULT)


@dataclass(frozen=True)
class SelectedBackends(Backends):
    """The backends of what was selected; the products of kernels are exact, or `coarse`."""

    coarse: bool = False

    def on(self, target: Target) -> Backend:
        served = self.selection.on(target)
        return (
            ChunkedBackend(target)
            if served.implementation == "xla"
            else PallasBackend(served.blocks, target, self.coarse)
        )


def _check(operands: Operands) -> None:
    check_are_arrays(operands._asdict(), absent=("v", "mask", "largest_key"))
    check_points("k", operands.k)
    if operands.v is not None:
        check_points("v", operands.v)
        check_same_points("v", operands.v, "k", operands.k)
    check_latents("q", operands.q, "k", operands.k)
    check_mask(operands.mask, operands.k)
    check_dtypes("k", operands.k, q=operands.q, v=operands.v)

"""The public entry of the gather: checks the arguments, chooses the implementation, calls it."""

import jax
from jaxtyping import Array, Bool, Float

from kernels._checks import check_axis, check_dtypes, check_latents, check_mask, check_points, check_same_points
from kernels._scale import check_scale
from kernels._sharding import vary_like
from kernels.gather.chunked import chunked_gather
from kernels.gather.operands import Operands
from kernels.gather.reference import reference_gather

IMPLEMENTATIONS = ("reference", "xla")


def gather(
    q: Float[Array, "H M D"] | Float[Array, "B H M D"],
    k: Float[Array, "B N H D"],
    v: Float[Array, "B N H C"] | None = None,
    *,
    scale: float | int = 1.0,
    mask: Bool[Array, "B N"] | None = None,
    axis_name: str | None = None,
    implementation: str | None = None,
) -> Float[Array, "B H M _"]:
    """Let latents read points: `z = softmax_N(scale q kᵀ) v`, in float32.

    q holds the queries of the latents, shared by the batch or one set per sample; k and v the keys and values of the
    points (`C` is the width of a value, usually D). Without v the values are the keys. `mask` is True for real points:
    the others take no part, whatever they hold, and a sample without real points has z = 0. All float arrays share one
    dtype; softmaxes and sums are float32.

    `axis_name` is the mesh axis over which the points are sharded when called inside `jax.shard_map` (not
    "reference"); z is then the same on all its devices. `implementation` is "reference" or "xla"; None chooses.

    Raises ValueError for shapes or dtypes that do not fit, a scale that is not positive and finite, an unknown
    implementation, and a named implementation that cannot serve the request.

    Source: FLARE++, arXiv 2608.11519 (query synthesis); the maths of both directions is in README.md.
    """
    scale = check_scale(scale)
    operands = Operands(q, k, v, mask)
    _check(operands)
    check_axis(axis_name, "gather")
    if implementation not in (None, *IMPLEMENTATIONS):
        raise ValueError(
            f"implementation is {implementation!r}; give one of {', '.join(IMPLEMENTATIONS)}, or None to choose one."
        )
    if implementation == "reference":
        if axis_name is not None:
            raise ValueError(f"axis_name is {axis_name!r}, over which 'reference' cannot merge; use 'xla' instead.")
        return reference_gather(operands, scale=scale)
    everything = [x for x in operands if x is not None]
    operands = jax.tree.map(lambda x: vary_like(x, *everything), operands)
    return chunked_gather(operands, scale=scale, axis_name=axis_name)


def _check(operands: Operands) -> None:
    check_points("k", operands.k)
    if operands.v is not None:
        check_points("v", operands.v)
        check_same_points("v", operands.v, "k", operands.k)
    check_latents("q", operands.q, "k", operands.k)
    check_mask(operands.mask, operands.k)
    check_dtypes("k", operands.k, q=operands.q, v=operands.v)

"""The public entry of triple attention: checks the arguments, chooses the implementation, calls it."""

from typing import Any

import jax
from jaxtyping import Array, Float

from kernels._implementation import Request
from kernels._operation import Backends
from kernels._sharding import vary_alike
from kernels._target import Target
from kernels.triple_attention import table
from kernels.triple_attention.attention import attend
from kernels.triple_attention.chunked import ChunkedContractions
from kernels.triple_attention.contractions import Contractions, Operands
from kernels.triple_attention.pallas import PallasContractions
from kernels.triple_attention.reference import reference_attention
from kernels.triple_attention.triton import TritonContractions
from kernels.triple_attention.validation import check_n_total, check_operands


def triple_attention(
    q1: Float[Array, "B N H D"],
    q2: Float[Array, "B N H D"],
    k1: Float[Array, "B N H D"],
    k2: Float[Array, "B N H D"],
    v: Float[Array, "B N H C"],
    *,
    n_total: int | None = None,
    implementation: str | None = None,
    axis_name: str | None = None,
    return_state: bool = False,
) -> Float[Array, "B N H C"] | tuple[Float[Array, "B N H C"], Float[Array, "B H D C D"]]:
    """Read the state `T_ijl = 1/N Σ_n k1_ni v_nj k2_nl` of all points with `y_nj = Σ_il q1_ni T_ijl q2_nl`.

    All arrays share one float dtype; `C` is the width of a value, usually D. Products have float32 sums. Points whose
    k1, k2 and v are zero change nothing but N; `n_total` replaces N, the number of points over the whole mesh axis.

    `implementation` is "reference", "xla", "pallas" or "triton"; None chooses by device, dtype and shape. `axis_name`
    is the mesh axis over which the points are sharded when called inside `jax.shard_map` (not "reference").
    Returns y in the dtype of v, with `return_state` also T in float32; gradients flow through both.

    Raises ValueError for shapes or dtypes that do not fit, an `n_total` that is not a positive integer, an unknown
    implementation, and a named implementation that cannot serve the request.

    Source: the `triple` token mixer of the FLARE sequence models; the maths of both directions is in README.md.
    """
    operands = Operands(q1, q2, k1, k2, v)
    check_operands(operands)
    request = Request(v.dtype.name, max(q1.shape[-1], v.shape[-1]), v.shape[1], axis_name)
    selection = table.OPERATION.resolve(implementation, request)
    scale = 1.0 / _count_points(n_total, v.shape[1], axis_name)
    if selection.implementation == "reference":
        y, state = reference_attention(operands, scale=scale)
    else:
        y, state = attend(vary_alike(operands), SelectedBackends(selection), scale, axis_name)
    return (y, state) if return_state else y


def _count_points(n_total: Any, points: int, axis_name: str | None) -> int:
    if n_total is not None:
        return check_n_total(n_total)
    return points if axis_name is None else points * jax.lax.axis_size(axis_name)


class SelectedBackends(Backends):
    """The contractions of what was selected."""

    def on(self, target: Target) -> Contractions:
        served = self.selection.on(target)
        match served.implementation:
            case "xla":
                return ChunkedContractions(target)
            case "pallas":
                return PallasContractions(served.blocks, target)
            case "triton":
                return TritonContractions(served.blocks, target)
        raise AssertionError(f"no contractions for {served}")

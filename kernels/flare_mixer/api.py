"""The public entry of the FLARE mixer: checks the arguments, chooses the implementation, calls it."""

import jax
from jaxtyping import Array, Bool, Float

from kernels._scale import check_scale
from kernels._sharding import vary_like
from kernels.flare_mixer import dispatch
from kernels.flare_mixer.chunked import chunked_mixer
from kernels.flare_mixer.cudnn import cudnn_mixer
from kernels.flare_mixer.operands import Operands
from kernels.flare_mixer.pallas import pallas_mixer
from kernels.flare_mixer.reference import reference_mixer
from kernels.flare_mixer.validation import check_operands


def flare_mixer(
    q: Float[Array, "H M D"] | Float[Array, "B H M D"],
    k: Float[Array, "B N H D"],
    v: Float[Array, "B N H C"],
    *,
    scale: float | int = 1.0,
    mask: Bool[Array, "B N"] | None = None,
    q_decode: Float[Array, "H M _"] | Float[Array, "B H M _"] | None = None,
    k_decode: Float[Array, "B N H _"] | None = None,
    implementation: str | None = None,
    axis_name: str | None = None,
    return_latents: bool = False,
) -> Float[Array, "B N H C"] | tuple[Float[Array, "B N H C"], Float[Array, "B H M C"]]:
    """Mix points through latents: gather `z = softmax_N(scale q kᵀ) v`, scatter `y = softmax_M(scale k qᵀ) z`.

    q holds the latent queries, shared by the batch or one set per sample; k and v the keys and values of the points
    (`C` is the width of a value, usually D). `mask` is True for real points: the others take no part in the gather and
    get output 0, and a sample without real points is all zeros. `q_decode` and `k_decode` (default q and k) give the
    scatter logits of its own. All float arrays share one dtype; softmaxes and sums are float32.

    `implementation` is "reference", "xla", "cudnn" or "pallas"; None chooses by device, dtype and shape. `axis_name`
    is the mesh axis over which the points are sharded when called inside `jax.shard_map` ("xla" and "pallas").
    Returns y in the dtype of v, with `return_latents` also z in float32.

    Raises ValueError for shapes or dtypes that do not fit, a scale that is not positive and finite, an unknown
    implementation, and a named implementation that cannot serve the request.

    Source: FLARE, arXiv 2508.12594 (the encode-decode token mixer); the maths of both directions is in README.md.
    """
    scale = check_scale(scale)
    if q_decode is not None or k_decode is not None:
        q_decode = q if q_decode is None else q_decode
        k_decode = k if k_decode is None else k_decode
    operands = Operands(q, k, v, q_decode, k_decode, mask)
    check_operands(operands)
    chosen = dispatch.resolve(implementation, operands, axis_name)
    everything = [x for x in operands if x is not None]
    operands = jax.tree.map(lambda x: vary_like(x, *everything), operands)
    y, latents = _run(chosen, operands, scale, axis_name)
    return (y, latents) if return_latents else y


def _run(implementation: str, operands: Operands, scale: float, axis_name: str | None) -> tuple[jax.Array, jax.Array]:
    match implementation:
        case "reference":
            return reference_mixer(operands, scale=scale)
        case "xla":
            return chunked_mixer(operands, scale=scale, axis_name=axis_name)
        case "cudnn":
            return cudnn_mixer(operands, scale=scale)
        case "pallas":
            blocks = dispatch.kernel_blocks(operands)
            return pallas_mixer(operands, scale=scale, axis_name=axis_name, blocks=blocks)
    raise AssertionError(f"dispatch returned {implementation}")

"""The public entry of the FLARE mixer: checks the arguments, chooses the implementation, calls it."""

from jaxtyping import Array, Bool, Float

from kernels._checks import as_largest, check_scale
from kernels._implementation import Request
from kernels._operation import Backends
from kernels._sharding import vary_alike
from kernels._target import Target, platform
from kernels.flare_mixer import table
from kernels.flare_mixer.chunked import ChunkedBackend
from kernels.flare_mixer.cudnn import cudnn_mixer
from kernels.flare_mixer.mixing import Backend, mix
from kernels.flare_mixer.mosaic import MosaicBackend
from kernels.flare_mixer.operands import Operands
from kernels.flare_mixer.pallas import PallasBackend
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
    largest_key: float | Float[Array, ""] | None = None,
    implementation: str | None = None,
    axis_name: str | None = None,
    return_latents: bool = False,
) -> Float[Array, "B N H C"] | tuple[Float[Array, "B N H C"], Float[Array, "B H M C"]]:
    """Mix points through latents: gather `z = softmax_N(scale q kᵀ) v`, scatter `y = softmax_M(scale k qᵀ) z`.

    q holds the latent queries, shared by the batch or one set per sample; k and v the keys and values of the points
    (`C` is the width of a value, usually D). `mask` is True for real points: the others take no part in the gather and
    get output 0, and a sample without real points is all zeros. `q_decode` and `k_decode` (default q and k) give the
    scatter logits of its own. All float arrays share one dtype; softmaxes and sums are float32.

    `largest_key` is a number that the norm of no key exceeds, where the caller knows one, as of normalised keys: the
    kernels need not look for the largest entry then, and may take a bound of the logits for their maximum. Entries far
    beyond it become infinite.

    `implementation` is "reference", "xla", "cudnn", "pallas" or "mosaic"; None chooses by device, dtype and shape.
    `axis_name` is the mesh axis over which the points are sharded when called inside `jax.shard_map` ("xla", "pallas"
    and "mosaic").
    Returns y in the dtype of v, with `return_latents` also z in float32.

    Raises ValueError for shapes or dtypes that do not fit, a scale that is not positive and finite, an unknown
    implementation, and a named implementation that cannot serve the request.

    Source: FLARE, arXiv 2508.12594 (the encode-decode token mixer); the maths of both directions is in README.md.
    """
    scale = check_scale(scale)
    if q_decode is not None or k_decode is not None:
        q_decode = q if q_decode is None else q_decode
        k_decode = k if k_decode is None else k_decode
    operands = Operands(q, k, v, q_decode, k_decode, mask, as_largest(largest_key))
    backends = select(operands, implementation, axis_name)
    selection = backends.selection
    if selection.implementation == "reference":
        y, latents = reference_mixer(operands, scale=scale)
    elif selection.implementation == "cudnn":
        # JAX itself looks at the GPU of this process when it traces cuDNN's attention, and so must we.
        selection.on(Target.of(platform()))
        y, latents = cudnn_mixer(operands, scale=scale)
    else:
        y, latents = mix(vary_alike(operands), backends, scale, axis_name)
    return (y, latents) if return_latents else y


def select(operands: Operands, implementation: str | None, axis_name: str | None) -> "SelectedBackends":
    """Check the operands and return the backends of what may run, as the arguments of `flare_mixer` say."""
    check_operands(operands)
    k, masked = operands.k, operands.mask is not None
    request = Request(k.dtype.name, max(operands.widths), k.shape[1], axis_name, masked=masked)
    return SelectedBackends(table.OPERATION.resolve(implementation, request))


class SelectedBackends(Backends):
    """The backends of what was selected."""

    def on(self, target: Target) -> Backend:
        served = self.selection.on(target)
        if served.implementation == "xla":
            return ChunkedBackend(target, keeps=len(self.selection.candidates) > 1)
        if served.implementation == "mosaic":
            return MosaicBackend(served.blocks, target)
        return PallasBackend(served.blocks, target)

"""The public entry of causal linear attention: checks the arguments, chooses the implementation, calls it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from kernels._scale import check_scale
from kernels._sharding import vary_like
from kernels.causal_linear_attention import dispatch
from kernels.causal_linear_attention.chunked import ChunkedBackend
from kernels.causal_linear_attention.pallas import PallasBackend
from kernels.causal_linear_attention.recurrence import Backend, attend
from kernels.causal_linear_attention.reference import quadratic_attention
from kernels.causal_linear_attention.triton import TritonBackend
from kernels.causal_linear_attention.validation import check_arrays, check_state

Attention = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def causal_linear_attention(
    q: Float[Array, "B N H D"],
    k: Float[Array, "B N H D"],
    v: Float[Array, "B N H C"],
    *,
    scale: float | int | None = None,
    normalize: bool = False,
    mask: Bool[Array, "B N"] | None = None,
    initial_state: Float[Array, "B H D _"] | None = None,
    implementation: str | None = None,
    return_state: bool = False,
) -> Float[Array, "B N H C"] | tuple[Float[Array, "B N H C"], Float[Array, "B H D _"]]:
    """Attend to all earlier points at cost O(N): `y_t = S_tᵀ q_t` with the state `S_t = S_0 + scale Σ_{τ≤t} k_τ v_τᵀ`.

    `C` is the width of a value, usually D. `scale` None means 1/N: outputs then depend on the length of the sequence,
    so give a number when a sequence is processed in parts. With `normalize` y is divided by the same sum with all
    values 1, so that the weights add up to one; where that sum is 0, y is 0. `mask` is True for real points: the others
    leave the state unchanged and get output 0. All token arrays share one dtype; states are float32 `[B, H, D, C]`,
    with `normalize` `[B, H, D, C + 1]`, the last column being that of the divisor. Both states are differentiable.

    `implementation` is "reference" (O(N²)), "xla", "pallas" or "triton"; None chooses by device, dtype and shape. The
    batch may be sharded inside `jax.shard_map`; the points may not, because each depends on all earlier ones.
    Returns y in the dtype of v, with `return_state` also the final state.

    Raises ValueError for shapes or dtypes that do not fit, a scale that is not positive and finite, an unknown
    implementation, and a named implementation that cannot serve the request.

    Source: Katharopoulos et al., arXiv 2006.16236, section 3.2, without feature map; both directions are in README.md.
    """
    channels = v.shape[-1] + int(normalize)
    check_arrays(q, k, v, mask)
    check_state(initial_state, q, channels)
    scale = 1.0 / q.shape[1] if scale is None else check_scale(scale, "or None for 1/N")
    width = max(q.shape[-1], v.shape[-1])
    chosen = dispatch.resolve(implementation, q.dtype.name, width)
    if initial_state is None:
        initial_state = jnp.zeros((q.shape[0], q.shape[2], q.shape[3], channels), jnp.float32)
    q, k, v, state = (vary_like(x, q, k, v, initial_state) for x in (q, k, v, initial_state))
    if mask is not None:  # zeros of q, too: whatever padding holds must not reach a product
        q, k, v = (jnp.where(mask[:, :, None, None], x, 0) for x in (q, k, v))
    attention = _attention(chosen, q.dtype.name, width, scale)
    y, final_state = _normalized(q, k, v, state, attention) if normalize else attention(q, k, v, state)
    return (y, final_state) if return_state else y


def _attention(implementation: str, dtype: str, width: int, scale: float) -> Attention:
    """Return the function of (q, k, v, state) that `implementation` computes."""
    if implementation == "reference":
        return lambda q, k, v, state: quadratic_attention(q, k, v, state, scale)
    backend = _backend(implementation, dtype, width)
    return lambda q, k, v, state: attend(backend, scale, q, k, v, state)


def _backend(implementation: str, dtype: str, width: int) -> Backend:
    match implementation:
        case "xla":
            return ChunkedBackend(dispatch.chunk_points(width))
        case "pallas":
            return PallasBackend(dispatch.kernel_blocks("pallas", dtype, width))
        case "triton":
            return TritonBackend(dispatch.kernel_blocks("triton", dtype, width))
    raise AssertionError(f"dispatch returned {implementation}")


def _normalized(
    q: jax.Array, k: jax.Array, v: jax.Array, state: jax.Array, attention: Attention
) -> tuple[jax.Array, jax.Array]:
    """Divide by the attention to values of 1: a second call whose values have one column."""
    y, values_state = attention(q, k, v, state[..., :-1])
    divisor, divisor_state = attention(q, k, jnp.ones_like(v[..., :1]), state[..., -1:])
    exists = divisor != 0
    y = jnp.where(exists, y, 0) / jnp.where(exists, divisor, 1)
    return y, jnp.concatenate([values_state, divisor_state], axis=-1)

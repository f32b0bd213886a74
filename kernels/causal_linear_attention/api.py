"""The public entry of causal linear attention: checks the arguments, chooses the implementation, calls it."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from kernels._checks import check_scale
from kernels._implementation import Request
from kernels._operation import Selection
from kernels._sharding import vary_alike
from kernels._target import Target
from kernels.causal_linear_attention import table
from kernels.causal_linear_attention.chunked import ChunkedBackend
from kernels.causal_linear_attention.pallas import PallasBackend
from kernels.causal_linear_attention.recurrence import Backend, Backends, attend
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
    check_arrays(q, k, v, mask)
    channels = v.shape[-1] + int(normalize)
    check_state(initial_state, q, channels)
    scale = 1.0 / q.shape[1] if scale is None else check_scale(scale, "or None for 1/N")
    request = Request(q.dtype.name, max(q.shape[-1], v.shape[-1]), q.shape[1])
    selection = table.OPERATION.resolve(implementation, request)
    if initial_state is None:
        initial_state = jnp.zeros((q.shape[0], q.shape[2], q.shape[3], channels), jnp.float32)
    q, k, v, state = vary_alike((q, k, v, initial_state))
    if mask is not None:  # zeros of q, too: whatever padding holds must not reach a product
        q, k, v = (jnp.where(mask[:, :, None, None], x, 0) for x in (q, k, v))
    attention = _attention(selection, scale)
    y, final_state = _normalized(q, k, v, state, attention) if normalize else attention(q, k, v, state)
    return (y, final_state) if return_state else y


def _attention(selection: Selection, scale: float) -> Attention:
    """Return the function of (q, k, v, state) of what was selected."""
    if selection.implementation == "reference":
        return lambda q, k, v, state: quadratic_attention(q, k, v, state, scale)
    return lambda q, k, v, state: attend(SelectedBackends(selection), scale, q, k, v, state)


@dataclass(frozen=True)
class SelectedBackends(Backends):
    """The backends of what was selected."""

    def on(self, target: Target) -> Backend:
        served = self.selection.on(target)
        match served.implementation:
            case "xla":
                return ChunkedBackend(table.chunk_points(self.selection.request.width), target)
            case "pallas":
                return PallasBackend(served.blocks, target)
            case "triton":
                return TritonBackend(served.blocks, target)
        raise AssertionError(f"no backend for {served}")

    def splits(self, k: jax.Array) -> set[int]:
        """Return into how many splits the points may be cut, whichever backend and launch runs."""
        batch, points, heads, _ = k.shape
        request, operation = self.selection.request, self.selection.operation
        sizes = {
            launch.blocks.split_points(points, batch * heads)
            for name in self.selection.candidates
            for launch in operation.launches_for(name, request)
        }
        if "xla" in self.selection.candidates:
            sizes.add(table.chunk_points(request.width))
        return {-(-points // min(size, points)) for size in sizes}


def _normalized(
    q: jax.Array, k: jax.Array, v: jax.Array, state: jax.Array, attention: Attention
) -> tuple[jax.Array, jax.Array]:
    """Divide by the attention to values of 1: a second call whose values have one column."""
    y, values_state = attention(q, k, v, state[..., :-1])
    divisor, divisor_state = attention(q, k, jnp.ones_like(v[..., :1]), state[..., -1:])
    exists = divisor != 0
    y = jnp.where(exists, y, 0) / jnp.where(exists, divisor, 1)
    return y, jnp.concatenate([values_state, divisor_state], axis=-1)

"""Causal linear attention whose state decays: gated linear attention and state-space forms (README.md, "Decay")."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from kernels._checks import check_are_arrays, check_scale, describe
from kernels._implementation import Request
from kernels._products import float32_einsum
from kernels._sharding import vary_alike
from kernels._target import Target
from kernels.causal_linear_attention import table
from kernels.causal_linear_attention.gated_chunked import ChunkedBackend
from kernels.causal_linear_attention.gated_pallas import PallasBackend
from kernels.causal_linear_attention.gated_scheme import Backend, Backends, attend, separate_resets
from kernels.causal_linear_attention.validation import check_arrays, check_state


def gated_linear_attention(
    q: Float[Array, "B N H D"],
    k: Float[Array, "B N H D"],
    v: Float[Array, "B N H C"],
    *,
    log_decay: Float[Array, "B N H"] | Float[Array, "B N H D"],
    scale: float | int = 1.0,
    mask: Bool[Array, "B N"] | None = None,
    initial_state: Float[Array, "B H D C"] | None = None,
    implementation: str | None = None,
    return_state: bool = False,
) -> Float[Array, "B N H C"] | tuple[Float[Array, "B N H C"], Float[Array, "B H D C"]]:
    """Attend to earlier points with a state that decays: `S_t = exp(g_t) S_{t-1} + k_t v_tᵀ`, `y_t = scale S_tᵀ q_t`.

    `log_decay` g is float32 and at most 0: one number per head, or one per channel of k, which multiplies its row of S.
    Below -10⁴ in all of a head, minus infinity included, the state is emptied, as at the start of a document. `mask` is
    True for real points: the others leave the state unchanged and get output 0. Of tokens of rank R, Σ_r k^r v^rᵀ,
    outputs and states are the sums of R calls. States are float32 `[B, H, D, C]` and differentiable.

    `implementation` is "reference" (point by point), "xla" (chunks, memory O(N)) or "pallas"; None chooses by device,
    dtype and shape. The batch may be sharded inside `jax.shard_map`, the points may not. Returns y in the dtype of v,
    with `return_state` also the final state. Raises ValueError for shapes or dtypes that do not fit, and for a named
    implementation that cannot serve the request.

    Source: gated linear attention, arXiv 2312.06635; one decay per head: Mamba-2, arXiv 2405.21060.
    """
    check_arrays(q, k, v, mask)
    check_state(initial_state, q, v.shape[-1])
    _check_decay(log_decay, k)
    scale = check_scale(scale)
    request = Request(q.dtype.name, max(q.shape[-1], v.shape[-1]), q.shape[1])
    selection = table.GATED.resolve(implementation, request)
    if initial_state is None:
        initial_state = jnp.zeros((q.shape[0], *q.shape[2:], v.shape[-1]), jnp.float32)
    q, k, v, log_decay, state = vary_alike((q, k, v, log_decay, initial_state))
    if mask is not None:  # zeros of q, too: whatever padding holds must not reach a product
        q, k, v = (jnp.where(mask[:, :, None, None], x, 0) for x in (q, k, v))
        log_decay = jnp.where(mask.reshape(*mask.shape, *(1,) * (log_decay.ndim - 2)), log_decay, 0.0)
    if selection.implementation == "reference":
        y, state = _recurrent(scale, q, k, v, log_decay, state)
    else:
        y, state = attend(SelectedBackends(selection), scale, q, k, v, log_decay, state)
    return (y, state) if return_state else y


@dataclass(frozen=True)
class SelectedBackends(Backends):
    """The backends of what was selected."""

    def on(self, target: Target) -> Backend:
        served = self.selection.on(target)
        match served.implementation:
            case "xla":
                return ChunkedBackend()
            case "pallas":
                return PallasBackend(served.blocks, target)
        raise AssertionError(f"no backend for {served}")

    def splits(self, k: jax.Array) -> set[int]:
        """Return into how many splits the points may be cut, whichever launch runs."""
        batch, points, heads, _ = k.shape
        request, operation = self.selection.request, self.selection.operation
        launches = [x for name in self.selection.candidates for x in operation.launches_for(name, request)]
        return {-(-points // x.blocks.split_points(points, batch * heads)) for x in launches}


def _recurrent(
    scale: float, q: jax.Array, k: jax.Array, v: jax.Array, log_decay: jax.Array, state: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return outputs, in the dtype of v, and final state point by point: the definition."""
    arrays = (scale * q.astype(jnp.float32), k, v, *separate_resets(log_decay))

    def step(state: jax.Array, token: tuple) -> tuple[jax.Array, jax.Array]:
        q, k, v, decay, reset = token
        factor = jnp.exp(decay)[..., None] if decay.ndim == 3 else jnp.exp(decay)[..., None, None]
        state = jnp.where(reset[..., None, None], 0.0, factor * state)
        state = state + float32_einsum(True, "bhd,bhc->bhdc", k, v)
        return state, float32_einsum(True, "bhd,bhdc->bhc", q, state)

    state, y = jax.lax.scan(step, state, jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), arrays))
    return jnp.moveaxis(y, 0, 1).astype(v.dtype), state


def _check_decay(log_decay: jax.Array, k: jax.Array) -> None:
    check_are_arrays({"log_decay": log_decay})
    if log_decay.shape not in (k.shape, k.shape[:3]) or log_decay.dtype != jnp.float32:
        raise ValueError(
            f"log_decay has shape {describe(log_decay)} and dtype {log_decay.dtype}; "
            f"give a float32 array of shape {describe(k.shape[:3])} or {describe(k)}, logarithms of factors up to 1."
        )

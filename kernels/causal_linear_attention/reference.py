"""The definition of causal linear attention in plain jnp, in two forms that check each other."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def _einsum(subscripts: str, *operands: jax.Array) -> jax.Array:
    return jnp.einsum(subscripts, *(x.astype(jnp.float32) for x in operands), precision="highest")


def quadratic_attention(
    q: Float[Array, "B N H D"],
    k: Float[Array, "B N H D"],
    v: Float[Array, "B N H C"],
    state: Float[Array, "B H D C"],
    scale: float,
) -> tuple[Float[Array, "B N H C"], Float[Array, "B H D C"]]:
    """Return outputs, in the dtype of `v`, and final state from the full `[N, N]` matrix of weights: O(N²) memory."""
    points = q.shape[1]
    weights = jnp.where(jnp.tri(points, dtype=bool), scale * _einsum("bnhd,bmhd->bhnm", q, k), 0.0)
    y = _einsum("bhnm,bmhc->bnhc", weights, v) + _einsum("bnhd,bhdc->bnhc", q, state)
    return y.astype(v.dtype), state + scale * _einsum("bnhd,bnhc->bhdc", k, v)


def recurrent_attention(
    q: Float[Array, "B N H D"],
    k: Float[Array, "B N H D"],
    v: Float[Array, "B N H C"],
    state: Float[Array, "B H D C"],
    scale: float,
) -> tuple[Float[Array, "B N H C"], Float[Array, "B H D C"]]:
    """Return outputs and final state token by token: `S ← S + scale k vᵀ`, `y = Sᵀ q`."""

    def step(state: jax.Array, token: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        q, k, v = token
        state = state + scale * _einsum("bhd,bhc->bhdc", k, v)
        return state, _einsum("bhd,bhdc->bhc", q, state)

    state, y = jax.lax.scan(step, state, tuple(jnp.moveaxis(x, 1, 0) for x in (q, k, v)))
    return jnp.moveaxis(y, 0, 1).astype(v.dtype), state

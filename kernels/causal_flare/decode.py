"""Decoding one token at a time with a state of constant size (README.md, "Decoding")."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from kernels._checks import check_are_arrays, check_scale
from kernels.causal_flare.operands import LOWEST, Operands, State, empty_state, exact_decay, fade, reciprocal
from kernels.causal_flare.validation import check_operands, check_sizes, check_state


def init_state(batch: int, heads: int, latents: int, channels: int) -> State:
    """Return the state before the first token: maximum -1e30 and mass 0 `[B, H, M]`, total 0 `[B, H, M, C]`.

    `channels` is the width of a value. Raises ValueError for a size that is not positive.
    """
    check_sizes(batch=batch, heads=heads, latents=latents, channels=channels)
    return empty_state((batch, heads, latents), channels)


def decode_step(
    state: State,
    q: Float[Array, "H M D"],
    k: Float[Array, "B H D"],
    v: Float[Array, "B H C"],
    *,
    scale: float | int = 1.0,
    mask: Bool[Array, "B"] | None = None,
    q_decode: Float[Array, "H M _"] | None = None,
    k_decode: Float[Array, "B H _"] | None = None,
    log_decay: Float[Array, "B H"] | None = None,
) -> tuple[Float[Array, "B H C"], State]:
    """Return the output of one token and the state after it: `causal_flare` continued by a token.

    `state` comes from `init_state`, from the last call or from `causal_flare(..., return_state=True)`; the other
    arguments are those of `causal_flare` without the axis N. A sample whose `mask` is False keeps its state and gets
    output 0. Memory and work do not depend on the number of earlier tokens.

    Raises ValueError for shapes or dtypes that do not fit and a scale that is not positive and finite.
    """
    scale = check_scale(scale)
    if q_decode is not None or k_decode is not None:
        q_decode = q if q_decode is None else q_decode
        k_decode = k if k_decode is None else k_decode
    check_are_arrays({"k": k, "v": v})
    tokens = [None if x is None else x[:, None] for x in (k, v, k_decode, mask, log_decay)]
    operands = Operands(q, tokens[0], tokens[1], q_decode, *tokens[2:])
    check_operands(operands, token=True)
    check_state(state, operands)
    return advance(state, q, q_decode, k, v, k_decode, mask, log_decay, scale)


def advance(
    state: State,
    q: jax.Array,
    q_decode: jax.Array | None,
    k: jax.Array,
    v: jax.Array,
    k_decode: jax.Array | None,
    mask: jax.Array | None,
    log_decay: jax.Array | None,
    scale: float,
) -> tuple[jax.Array, State]:
    """Return the output `[B, H, C]`, in the dtype of v, and the new state, without checks."""
    hide = (lambda x: x) if mask is None else lambda x: jnp.where(mask[:, None, None], x, 0)
    logits = scale * _product(q, hide(k))
    read_logits = logits if q_decode is None else scale * _product(q_decode, hide(k_decode))
    if mask is not None:
        logits = jnp.where(mask[:, None, None], logits, -jnp.inf)
    if log_decay is not None:
        decay = exact_decay(log_decay)
        state = fade(state, (decay if mask is None else jnp.where(mask[:, None], decay, 0.0))[..., None])
    maximum = jax.lax.stop_gradient(jnp.maximum(jnp.maximum(state.maximum, logits), LOWEST))
    decay, weight = jnp.exp(state.maximum - maximum), jnp.exp(logits - maximum)
    mass = decay * state.mass + weight
    values = hide(v).astype(jnp.float32)
    total = decay[..., None] * state.total + weight[..., None] * values[:, :, None]
    share = jax.nn.softmax(read_logits, axis=-1) * reciprocal(mass)
    y = jnp.einsum("bhm,bhmc->bhc", share, total, precision="highest")
    return hide(y).astype(v.dtype), State(maximum, mass, total)


def _product(q: jax.Array, k: jax.Array) -> jax.Array:
    return jnp.einsum("hmd,bhd->bhm", q.astype(jnp.float32), k.astype(jnp.float32), precision="highest")

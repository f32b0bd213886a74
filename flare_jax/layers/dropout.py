"""Dropout with explicit random keys; without a key (evaluation) it does nothing."""

import numbers

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, UInt32

Key = PRNGKeyArray | UInt32[Array, "2"]


def check_rate(name: str, value: object) -> float:
    """Return `value` as a float if it is a number of [0, 1), the share of entries that dropout sets to zero."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool) or not 0 <= value < 1:
        raise ValueError(f"{name} is {value!r} but must be at least 0 and below 1; set {name} accordingly")
    return float(value)


def dropout(x: Float[Array, "..."], rate: float, key: Key | None) -> Float[Array, "..."]:
    """Return x with each entry set to zero with probability `rate` and the others divided by `1 − rate`.

    Without a key, or at rate 0, x is returned as it is.
    """
    if key is None or rate == 0:
        return x
    kept = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(kept, x / (1 - rate), 0).astype(x.dtype)


def split_key(key: Key | None, number: int) -> tuple[Key | None, ...]:
    """Return `number` independent keys, or as many None for no key."""
    return (None,) * number if key is None else tuple(jax.random.split(key, number))


def refuse_attention_dropout(mixer: str, attn_drop: object) -> None:
    """Raise unless `attn_drop` is 0, for a `mixer` that has no attention probabilities to drop."""
    if check_rate("attn_drop", attn_drop):
        raise ValueError(
            f"attn_drop is {attn_drop} but {mixer} has no attention probabilities to drop; set attn_drop=0"
        )

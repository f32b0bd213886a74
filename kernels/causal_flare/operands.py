"""The arrays that every implementation takes and returns."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from kernels._chunked import LOWEST

# A log decay below this one forgets everything exactly: sums of log decays stay small enough for float32.
FORGETS_ALL = -1e4


class Operands(NamedTuple):
    """Inputs of the mixer; the decode operands are both None where reading shares the logits of the prefix softmax.

    Shapes: q `[H, M, D]`, k `[B, N, H, D]`, v `[B, N, H, C]`, q_decode and k_decode like q and k with a width of their
    own, mask `[B, N]` bool, log_decay `[B, N, H]` float32.
    """

    q: jax.Array
    k: jax.Array
    v: jax.Array
    q_decode: jax.Array | None = None
    k_decode: jax.Array | None = None
    mask: jax.Array | None = None
    log_decay: jax.Array | None = None

    @property
    def separate(self) -> bool:
        """Whether reading has logits of its own."""
        return self.q_decode is not None

    @property
    def token_decay(self) -> jax.Array | None:
        """The log decays `[B, H, N]`, 0 for masked tokens, which leave the state as it is."""
        if self.log_decay is None:
            return None
        decay = self.log_decay if self.mask is None else jnp.where(self.mask[:, :, None], self.log_decay, 0.0)
        return jnp.swapaxes(decay, 1, 2)


class State(NamedTuple):
    """The prefix softmax of every latent after some tokens, float32: all that later tokens need of the earlier ones.

    `maximum` `[B, H, M]` is the largest logit so far (-1e30 before any), `mass` `[B, H, M]` the sum of
    exp(logit - maximum), `total` `[B, H, M, C]` the sum of exp(logit - maximum) times the value; total / mass is the
    latent. The maximum is only the reference point of the other two, and as such it has no gradient as an output.
    """

    maximum: jax.Array
    mass: jax.Array
    total: jax.Array


def empty_state(shape: tuple[int, ...], channels: int) -> State:
    """Return the state before any token for latents of `shape`, `[B, H, M]` or with further axes."""
    maximum = jnp.full(shape, LOWEST, jnp.float32)
    return State(maximum, jnp.zeros(shape, jnp.float32), jnp.zeros((*shape, channels), jnp.float32))


def merge(first: State, second: State) -> State:
    """Return the state after the tokens of both; associative."""
    maximum = jax.lax.stop_gradient(jnp.maximum(first.maximum, second.maximum))
    shares = [jnp.exp(state.maximum - maximum) for state in (first, second)]
    mass = shares[0] * first.mass + shares[1] * second.mass
    return State(maximum, mass, shares[0][..., None] * first.total + shares[1][..., None] * second.total)


def fade(state: State, log_decay: jax.Array) -> State:
    """Return the state after all its tokens have faded by exp(log_decay) `[B, H, M]`; minus infinity forgets them."""
    return state._replace(maximum=state.maximum + log_decay)


def exact_decay(log_decay: jax.Array) -> jax.Array:
    """Return log decays with minus infinity where they forget everything."""
    return jnp.where(log_decay < FORGETS_ALL, -jnp.inf, log_decay)


def reciprocal(mass: jax.Array) -> jax.Array:
    """Return 1 / mass, and 1 where nothing has been seen and the mass is 0."""
    return 1.0 / jnp.where(mass > 0, mass, 1.0)


def zero_masked(x: jax.Array | None, mask: jax.Array | None) -> jax.Array | None:
    """Return tokens with zeros where a mask [B, N] is false."""
    return x if x is None or mask is None else jnp.where(mask[:, :, None, None], x, 0)

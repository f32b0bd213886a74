"""The selective scan of state-space models, evaluated in chunks (Mamba-2, Dao and Gu, arXiv 2405.21060, section 6)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flare_jax.checks import check_integer


def selective_scan(
    x: Float[Array, "B N H D"],
    step: Float[Array, "B N H"],
    rate: Float[Array, "H"],
    b: Float[Array, "B N H_group D_state"],
    c: Float[Array, "B N H_group D_state"],
    initial_state: Float[Array, "H D D_state"] | None = None,
    *,
    chunk_size: int = 64,
) -> Float[Array, "B N H D"]:
    """Return `y_n = h_n c_n` with `h_n = exp(step_n · rate) h_{n−1} + step_n x_n b_nᵀ` along N, per head, in float32.

    `step` is positive and `rate` negative, so that the states h [D, D_state] decay; they start from `initial_state`, or
    from zero. Consecutive heads share the b and c of a group. Positions of a chunk meet in pairs and chunks are joined
    by a scan over their states, at O(N · chunk_size) memory. Raises ValueError if the groups do not divide the heads.
    """
    (batch, length, heads, width), (groups, state_dim) = x.shape, b.shape[2:]
    if heads % groups:
        raise ValueError(f"b and c have {groups} groups, which do not divide the {heads} heads of x; choose a divisor")
    chunk = min(check_integer("chunk_size", chunk_size), length)
    step = step.astype(jnp.float32)
    log_decay = (step * rate.astype(jnp.float32)).reshape(batch, length, groups, -1)
    added = (step[..., None] * x.astype(jnp.float32)).reshape(*log_decay.shape, width)
    log_decay, added, b, c = (_cut(array.astype(jnp.float32), chunk) for array in (log_decay, added, b, c))
    if initial_state is None:
        initial_state = jnp.zeros((heads, width, state_dim), jnp.float32)
    start = jnp.broadcast_to(
        initial_state.astype(jnp.float32).reshape(groups, -1, width, state_dim),
        (batch, groups, heads // groups, width, state_dim),
    )

    # Letters of the einsums: b batch, l chunk, t and u positions in it, g group, k head of it, d channel, s state.
    decay = jnp.exp(_segment_sums(jnp.moveaxis(log_decay, 2, -1)))
    decay_from_start = jnp.exp(jnp.cumsum(log_decay, axis=2))
    pairs = jnp.einsum("bltgs,blugs->blgtu", c, b)[:, :, :, None] * decay
    within = jnp.einsum("blgktu,blugkd->bltgkd", pairs, added)
    gained = jnp.einsum("blgku,blugkd,blugs->lbgkds", decay[..., -1, :], added, b)
    kept = jnp.moveaxis(decay_from_start[:, :, -1], 1, 0)
    states = _states_before_chunks(start, gained, kept)
    across = decay_from_start[..., None] * jnp.einsum("bltgs,lbgkds->bltgkd", c, states)
    return (within + across).reshape(batch, -1, heads, width)[:, :length]


def _cut(array: Float[Array, "B N *_"], chunk: int) -> Float[Array, "B _ _ *_"]:
    """Return [B, chunks, chunk, ...], padded with zeros: a step of zero neither decays a state nor adds to it."""
    padding = -array.shape[1] % chunk
    array = jnp.pad(array, [(0, 0), (0, padding), *[(0, 0)] * (array.ndim - 2)])
    return array.reshape(array.shape[0], -1, chunk, *array.shape[2:])


def _segment_sums(log_decay: Float[Array, "*_ T"]) -> Float[Array, "*_ T T"]:
    """Return at [t, u] the sum of `log_decay` over u < m ≤ t, and −∞ where u > t."""
    row, column = jnp.arange(log_decay.shape[-1])[:, None], jnp.arange(log_decay.shape[-1])
    # Each column is summed by itself: a difference of two sums from the start would lose small steps to large ones.
    sums = jnp.cumsum(jnp.where(row > column, log_decay[..., :, None], 0), axis=-2)
    return jnp.where(row >= column, sums, -jnp.inf)


def _states_before_chunks(
    start: Float[Array, "B H_group _ D D_state"],
    gained: Float[Array, "_ B H_group _ D D_state"],
    kept: Float[Array, "_ B H_group _"],
) -> Float[Array, "_ B H_group _ D D_state"]:
    """Return the state that each chunk finds: the previous one times what the previous chunk kept, plus its gain."""

    def advance(state: Array, chunk: tuple[Array, Array]) -> tuple[Array, Array]:
        gain, keep = chunk
        return keep[..., None, None] * state + gain, state

    return jax.lax.scan(advance, start, (gained, kept))[1]

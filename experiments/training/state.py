"""The training state: everything that a step reads and writes, and nothing else."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from experiments.training.packing import Packed, Packing, Params


class TrainState(NamedTuple):
    """`step` counts finished optimizer steps; `ema` is an empty dictionary where no average is kept.

    `key` is the run's root key; step and epoch numbers are folded into it, so it never changes.
    """

    step: Array
    params: Packed
    ema: Packed
    opt_state: optax.OptState
    key: Array


def create_state(
    params: Params, packing: Packing, optimizer: optax.GradientTransformation, seed: int, ema: bool
) -> TrainState:
    """Return the state before the first step; the average starts at the initial parameters, which it soon forgets."""

    @jax.jit  # one program: else each of some thirty operations would be compiled
    def begin(params: Params, key: Array) -> TrainState:
        packed = packing.pack(params)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=packed,
            # Copied: the step donates its input, and one buffer must not be donated twice.
            ema=jax.tree.map(jnp.copy, packed) if ema else {},
            opt_state=optimizer.init(packed),
            key=key,
        )

    return begin(params, jax.random.key(seed))

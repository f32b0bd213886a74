"""The training state: everything that a step reads and writes, and nothing else."""

from typing import NamedTuple

import jax
import numpy as np
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
    """Return the state before the first step; the average starts at the initial parameters, which it soon forgets.

    Of parameters that are shapes it has the shapes.
    """
    if any(isinstance(value, jax.ShapeDtypeStruct) for value in params.values()):

        def begin(params: Params) -> TrainState:
            packed = packing.pack(params)
            return _begin(packed, optimizer.init(packed), seed, ema)

        return jax.eval_shape(begin, params)
    # Put together on the host, and the optimizer begins in one program: else each of many operations would be compiled.
    packed = packing.pack({name: np.asarray(value) for name, value in params.items()}, np)
    return jax.device_put(_begin(packed, jax.jit(optimizer.init)(packed), seed, ema))


def _begin(packed: Packed, opt_state: optax.OptState, seed: int, ema: bool) -> TrainState:
    return TrainState(
        step=np.zeros((), np.int32),
        params=packed,
        # Copied: the step donates its input, and one buffer must not be donated twice.
        ema=jax.tree.map(lambda value: value.copy(), packed) if ema else {},
        opt_state=opt_state,
        key=jax.random.key(seed),
    )

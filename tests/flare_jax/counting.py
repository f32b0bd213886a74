"""Numbers of parameters of deep models, told by two of few blocks, which are built sooner."""

from collections.abc import Callable
from typing import Any

from flax import nnx

from flare_jax.params import count_parameters, split


def count_of(build: Callable[[int], Any], num_blocks: int) -> int:
    """Return the number of parameters of `build(num_blocks)`, of which all blocks after the first one are alike."""
    if num_blocks < 4:
        return _count(build, num_blocks)
    one, two = _count(build, 1), _count(build, 2)
    return one + (num_blocks - 1) * (two - one)


def _count(build: Callable[[int], Any], num_blocks: int) -> int:
    return count_parameters(split(nnx.eval_shape(lambda: build(num_blocks)))[1])

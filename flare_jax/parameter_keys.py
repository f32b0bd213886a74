"""Random keys of the parameters of a model."""

import jax
from flax import nnx


class ParameterKeys(nnx.Rngs):
    """The keys of `nnx.Rngs(seed)`, counted by a number of Python.

    nnx counts in an array: where a model is only traced, for the shapes of its parameters, that count took most of the
    time, and time that grows with the square of the number of parameters.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.default = _CountedStream(jax.random.key(seed), tag="default")


class _CountedStream(nnx.RngStream):
    def __init__(self, key: jax.Array, *, tag: str) -> None:
        super().__init__(key, tag=tag)
        self.drawn = 0

    def __call__(self) -> jax.Array:
        key = jax.random.fold_in(self.key[...], self.drawn)
        self.drawn += 1
        return key

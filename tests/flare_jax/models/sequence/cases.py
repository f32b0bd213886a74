"""Small blocks and models that the tests of the sequence models share, with perturbed parameters.

The cases are those of all modules `cases_<family>.py` of this folder, which hold `CASES: dict[str, BlockCase]`.
"""

import functools
import importlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from flare_jax.models.sequence import BACKENDS, block_config, build_sequence_model, make_blocks
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import Params, split
from tests.flare_jax.models.sequence.case import BlockCase

CHANNEL_DIM, NUM_HEADS, LENGTH, VOCABULARY, LABELS = 12, 2, 11, 7, 3


def _collect() -> dict[str, BlockCase]:
    """Return the cases of all families by name."""
    cases: dict[str, BlockCase] = {}
    for file in sorted(Path(__file__).parent.glob("cases_*.py")):
        found = importlib.import_module(f"{__package__}.{file.stem}").CASES
        assert not cases.keys() & found.keys(), f"{file.stem} repeats names of cases: {cases.keys() & found.keys()}"
        cases |= found
    return cases


CASES = _collect()


def perturbed(build) -> tuple[nnx.GraphDef, Params]:
    """Return structure and parameters, random around 1 for scales and around 0 for all others."""
    graphdef, template = split(nnx.eval_shape(build))
    generator = np.random.default_rng(1)
    return graphdef, {
        name: jnp.asarray(np.float32(name.endswith("scale") + 0.3 * generator.standard_normal(leaf.shape)))
        for name, leaf in template.items()
    }


def sizes_of(backend: str) -> dict[str, int]:
    """Return the sizes of a small block; some blocks want to know their width beforehand."""
    sizes = {"num_heads": NUM_HEADS, "channel_dim": CHANNEL_DIM}
    return {name: value for name, value in sizes.items() if name in BACKENDS[backend].options()}


@functools.cache
def block(case: str, dtype: str = "float32", rope: bool = False) -> tuple[nnx.GraphDef, Params]:
    """Return one block of a case without position embeddings, or with rotary ones."""
    chosen = CASES[case]
    return perturbed(
        lambda: make_blocks(
            chosen.backend,
            block_config(chosen.backend, {**sizes_of(chosen.backend), **chosen.options}, max_length=LENGTH),
            num_blocks=1,
            channel_dim=CHANNEL_DIM,
            max_length=LENGTH,
            rope_mode="reference" if rope else None,
            dtype=dtype,
            rngs=ParameterKeys(0),
        )[0]
    )


def model(
    backend: str, task: str = "match3", *, dtype: str = "float32", labels: int = LABELS, **options
) -> tuple[nnx.GraphDef, Params]:
    """Return a small model, token-level and of one block unless asked otherwise."""
    defaults = {"num_blocks": 1, "channel_dim": CHANNEL_DIM, "num_heads": NUM_HEADS, "max_length": LENGTH}
    return perturbed(
        lambda: build_sequence_model(
            backend, task, VOCABULARY, labels, defaults | options, dtype=dtype, rngs=ParameterKeys(0)
        )
    )


def features(b: int = 2, n: int = LENGTH) -> jax.Array:
    """Return random block inputs [b, n, CHANNEL_DIM]."""
    return jnp.asarray(_features(b, n))


def tokens(b: int = 2, n: int = LENGTH) -> jax.Array:
    """Return random token numbers [b, n]."""
    return jnp.asarray(_tokens(b, n))


@functools.cache
def _features(b: int, n: int) -> np.ndarray:
    with jax.ensure_compile_time_eval():
        return np.asarray(jax.random.normal(jax.random.key(2), (b, n, CHANNEL_DIM), jnp.float32))


@functools.cache
def _tokens(b: int, n: int) -> np.ndarray:
    with jax.ensure_compile_time_eval():
        return np.asarray(jax.random.randint(jax.random.key(3), (b, n), 0, VOCABULARY))


def trailing_mask(lengths: tuple[int, ...] = (7, 9), n: int = LENGTH) -> jax.Array:
    """Return the mask [B, n] of sequences of these lengths."""
    return jnp.asarray(np.arange(n)[None, :] < np.asarray(lengths)[:, None])

"""Small models that the tests share, with parameters perturbed so that zeros and ones matter.

The cases are those of all modules `cases_<family>.py` of this folder, each of which holds `CASES: dict[str, Case]`.
"""

import functools
import importlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from flare_jax.models import MODELS, build_model
from flare_jax.options import without_unused
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import Params, split
from tests.flare_jax.models.case import IN_DIM, NUM_POINTS, Case


def _collect() -> dict[str, Case]:
    """Return the cases of all families by name."""
    cases: dict[str, Case] = {}
    for file in sorted(Path(__file__).parent.glob("cases_*.py")):
        found = importlib.import_module(f"{__package__}.{file.stem}").CASES
        assert not cases.keys() & found.keys(), f"{file.stem} repeats names of cases: {cases.keys() & found.keys()}"
        cases |= found
    return cases


CASES = _collect()


def build(case: str, *, dtype="float32", **changes) -> nnx.Module:
    """Return a model of the case, with its initial parameters."""
    chosen = CASES[case]
    # Changes may leave other options of the case without effect.
    options = without_unused(MODELS[chosen.model_type].config, dict(chosen.options) | changes)
    return build_model(chosen.model_type, chosen.in_dim, chosen.out_dim, options, rngs=ParameterKeys(0), dtype=dtype)


def build_perturbed(case: str, *, dtype="float32", **changes) -> tuple[nnx.GraphDef, Params]:
    """Return structure and parameters of the case, random around 1 for scales and around 0 for all others."""
    graphdef, params = _build_perturbed(case, dtype, tuple(sorted(changes.items())))
    return graphdef, dict(params)


@functools.cache
def _build_perturbed(case: str, dtype: str, changes: tuple[tuple[str, Any], ...]) -> tuple[nnx.GraphDef, Params]:
    graphdef, template = split(nnx.eval_shape(lambda: build(case, dtype=dtype, **dict(changes))))
    assert {leaf.dtype for leaf in template.values()} == {jnp.dtype("float32")}, "in any compute dtype"
    generator = np.random.default_rng(1)
    around = {"scale": 1.0} | dict(CASES[case].around)
    return graphdef, {
        name: jnp.asarray(
            np.float32(around.get(name.rsplit(".", 1)[-1], 0.0) + 0.2 * generator.standard_normal(leaf.shape))
        )
        for name, leaf in template.items()
    }


def points(b: int = 2, n: int = NUM_POINTS, in_dim: int = IN_DIM) -> jax.Array:
    """Return random input points [b, n, in_dim]."""
    return jnp.asarray(_points(b, n, in_dim))


@functools.cache
def _points(b: int, n: int, in_dim: int) -> np.ndarray:
    with jax.ensure_compile_time_eval():
        return np.asarray(jax.random.normal(jax.random.key(2), (b, n, in_dim), jnp.float32))


def inputs(case: str, b: int = 2, n: int | None = None) -> dict[str, jax.Array]:
    """Return all random inputs of a call of the case by argument name: x and what the case has beside it.

    Made without JAX where it would compile a small program for each shape, as all that is done with them below.
    """
    chosen = CASES[case]
    n = chosen.num_points if n is None else n
    generator = np.random.default_rng(4)
    extra = {name: (b, n, width) for name, width in chosen.point_inputs.items()}
    extra |= {name: (b, *shape) for name, shape in chosen.sample_inputs.items()}
    found = {"x": points(b, n, chosen.in_dim)} | {
        name: jnp.asarray(np.float32(generator.standard_normal(shape))) for name, shape in extra.items()
    }
    return found | (graph(b, n, chosen.options["edge_dim"]) if chosen.graph else {})


def graph(b: int, n: int, edge_dim: int) -> dict[str, jax.Array]:
    """Return rings of n nodes, sorted by target, with random features of their edges."""
    ring = np.stack([(np.arange(n, dtype=np.int32) + 1) % n, np.arange(n, dtype=np.int32)], axis=-1)
    features = jax.random.normal(jax.random.key(5), (b, n, edge_dim), jnp.float32)
    return {"edges": jnp.asarray(np.broadcast_to(ring, (b, n, 2))), "edge_attr": features}


def take_points(case: str, arguments: dict[str, jax.Array], index: np.ndarray) -> dict[str, jax.Array]:
    """Return the inputs with the points `index` [B, n] of every sample; inputs per sample stay as they are."""
    per_point = {"x", *CASES[case].point_inputs}
    return {
        name: jnp.asarray(np.take_along_axis(np.asarray(value), index[..., None], axis=1))
        if name in per_point
        else value
        for name, value in arguments.items()
    }


def place_points(case: str, arguments: dict[str, jax.Array], mask: np.ndarray) -> dict[str, jax.Array]:
    """Return the inputs with their points where `mask` [B, N] is true, in their order, and large numbers elsewhere."""

    def placed(value: jax.Array) -> jax.Array:
        whole = np.random.default_rng(4).normal(scale=100.0, size=(*mask.shape, value.shape[-1])).astype(value.dtype)
        whole[mask] = np.asarray(value).reshape(-1, value.shape[-1])
        return jnp.asarray(whole)

    per_point = {"x", *CASES[case].point_inputs}
    return {name: placed(value) if name in per_point else value for name, value in arguments.items()}


def poison_points(case: str, arguments: dict[str, jax.Array], mask: np.ndarray) -> dict[str, jax.Array]:
    """Return the inputs with NaN at all points that `mask` [B, N] marks as padding."""
    per_point = {"x", *CASES[case].point_inputs}
    return {
        name: jnp.asarray(np.where(mask[..., None], value, np.float32(np.nan))) if name in per_point else value
        for name, value in arguments.items()
    }

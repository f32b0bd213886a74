"""Coordinates, times and distances keep their digits until the first layer has seen them, in every model."""

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flare_jax.layers.linear import InputLinear
from flare_jax.models import build_model
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import apply_fn
from tests.flare_jax.models.cases import CASES, build_perturbed, inputs

PRODUCTS = ("dot_general", "conv_general_dilated")
HIGHEST = (jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST)


def losses(jaxpr: Any, inputs: list[bool]) -> tuple[list[str], list[bool]]:
    """Return where inputs lose digits before their first layer, and which results still are inputs of that layer."""
    unseen = {id(var) for var, is_input in zip(jaxpr.invars, inputs, strict=True) if is_input}
    found = []
    for eqn in jaxpr.eqns:
        is_input = [id(var) in unseen for var in eqn.invars]
        # An index that depends on positions does not make positions of what it selects.
        reads = is_input[:1] if eqn.primitive.name in ("gather", "dynamic_slice") else is_input
        if not any(reads):
            continue
        inner = list(sub_jaxprs(eqn.params))
        if eqn.primitive.name in PRODUCTS:
            if eqn.params["precision"] != HIGHEST or eqn.invars[0].aval.dtype != jnp.float32:
                found.append(f"a product of {eqn.invars[0].aval.dtype} in precision {eqn.params['precision']}")
            continue
        if eqn.primitive.name == "convert_element_type" and eqn.params["new_dtype"] == jnp.bfloat16:
            found.append(f"{eqn.invars[0].aval.str_short()} is cast to bfloat16")
            continue
        results = [True] * len(eqn.outvars)
        for sub in inner:
            below, results = losses(sub, is_input[len(is_input) - len(sub.invars) :])
            found += below
            results = [False] * (len(eqn.outvars) - len(results)) + results
        floats = [jnp.issubdtype(var.aval.dtype, jnp.floating) for var in eqn.outvars]
        unseen |= {id(v) for v, is_result, f in zip(eqn.outvars, results, floats, strict=False) if is_result and f}
    return found, [id(var) in unseen for var in jaxpr.outvars]


def sub_jaxprs(params: dict[str, Any]) -> Iterator[Any]:
    """Return the programs inside of an equation."""
    for value in params.values():
        for entry in value if isinstance(value, tuple | list) else (value,):
            program = getattr(entry, "jaxpr", entry)
            if hasattr(program, "eqns"):
                yield program


def losses_of(function: Any, *arguments: Any, **named: jax.Array) -> list[str]:
    """Return where the `named` inputs lose digits before the first layer of a function of `arguments` and them."""
    with jax.default_matmul_precision("default"):
        program = jax.make_jaxpr(lambda named: function(*arguments, **named))(named)
    return losses(program.jaxpr, [True] * len(program.jaxpr.invars))[0]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_inputs_reach_the_first_layer_in_float32(case, dtype):
    # In float32 there is no cast to find, and the products are those of one block.
    graphdef, params = build_perturbed(case, dtype=dtype, **({} if dtype == "bfloat16" else CASES[case].small))
    assert losses_of(apply_fn(graphdef), params, **inputs(case)) == []


def test_the_walk_finds_what_it_looks_for():
    weight = jnp.ones((3, 4))
    x = jnp.ones((2, 3))
    assert (
        "cast to bfloat16" in losses_of(lambda x: jnp.sin(x).astype(jnp.bfloat16) @ weight.astype(jnp.bfloat16), x=x)[0]
    )
    assert "in precision (Precision.DEFAULT" in losses_of(jax.jit(lambda x: jnp.abs(x) @ weight), x=x)[0]
    assert losses_of(lambda x: jnp.matmul(x, weight, precision="highest").astype(jnp.bfloat16), x=x) == []


def test_no_place_of_2000_points_is_lost_in_bfloat16():
    """Rounding to bfloat16 first leaves 129 of them."""
    x = jnp.linspace(0.5, 1, 2000, dtype=jnp.float32)[:, None]
    assert len(np.unique(x.astype(jnp.bfloat16).astype(jnp.float32))) == 129
    model = build_model("flare", 1, 1, {"num_latents": 4, "num_blocks": 1}, rngs=ParameterKeys(0), dtype="bfloat16")
    assert len(np.unique(model.in_proj.fc1(x), axis=0)) == 2000


def count_places(x: np.ndarray) -> int:
    """Return the number of different rows, told apart by a hash of 64 bits."""
    odd = np.random.default_rng(1).integers(2**63, size=x.shape[1], dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    return len(np.unique((x.view(np.uint32).astype(np.uint64) * odd).sum(1, dtype=np.uint64)))


def test_no_place_of_a_million_points_is_lost_and_a_field_of_twenty_waves_can_be_fitted():
    """Rounding to bfloat16 first leaves 602 987 places on the sphere, which no fit of the field can undo."""
    normal = np.random.default_rng(0).standard_normal((1_000_000, 3))
    x = ((1 + normal / np.linalg.norm(normal, axis=1, keepdims=True)) / 2).astype(np.float32)
    y = np.asarray(InputLinear(3, 4, rngs=ParameterKeys(0))(jnp.asarray(x)))
    assert count_places(np.asarray(jnp.asarray(x).astype(jnp.bfloat16), np.float32)) == 602_987
    assert count_places(y) == count_places(x) > 999_000

    def field(x: np.ndarray) -> np.ndarray:
        return np.sin(2 * math.pi * 20 * x[:, 0])

    def error_of_rounding(x: np.ndarray, rounded: np.ndarray) -> float:
        return np.linalg.norm(field(rounded) - field(x)) / np.linalg.norm(field(x))

    x = x[:20_000]
    first = error_of_rounding(x, np.asarray(jnp.asarray(x).astype(jnp.bfloat16), np.float32))
    model = build_model("flare", 3, 1, {"num_latents": 4, "num_blocks": 1}, rngs=ParameterKeys(0), dtype="bfloat16")
    hidden = np.asarray(model.in_proj(jnp.asarray(x)), np.float64)
    decoded = hidden @ np.linalg.lstsq(hidden, x.astype(np.float64), rcond=None)[0]
    assert first > 0.1
    assert error_of_rounding(x, decoded) < 0.03

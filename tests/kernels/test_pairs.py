"""Of kernels for GPUs: what is computed from products is no transposed factor, where that can be avoided."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from kernels import causal_flare, gated_linear_attention
from kernels._statistics import Statistics
from kernels._target import Target
from kernels._tiling import Blocks
from kernels.flare_mixer.operands import Operands
from kernels.flare_mixer.pallas import PallasBackend
from kernels.flare_mixer.table import KernelBlocks
from kernels.gather.operands import Operands as GatherOperands
from kernels.gather.pallas import gather_gradients

HEADS, WIDTH, LATENTS, POINTS = 2, 16, 70, 1000
HOPPER = Target("cuda", (9, 0))


def array(*shape: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def inner(equation: Any) -> Iterator[Any]:
    """Yield the programs within an operation."""
    for value in equation.params.values():
        for item in value if isinstance(value, (list, tuple)) else [value]:
            item = getattr(item, "jaxpr", item)
            if hasattr(item, "eqns"):
                yield item


def products(program: Any) -> int:
    """Count the products in a program, those within its operations included."""
    within = sum(products(x) for equation in program.eqns for x in inner(equation))
    return within + sum(equation.primitive.name == "dot_general" for equation in program.eqns)


def transposed_results(program: Any) -> int:
    """Count the products of which a transposed factor is itself computed from a product."""
    found, computed = 0, set()
    for equation in program.eqns:
        operands = [x for x in equation.invars if not hasattr(x, "val")]
        if equation.primitive.name == "dot_general":
            (left, right), _ = equation.params["dimension_numbers"]
            found += any(
                axis == (transposed,) and operand in computed
                for operand, axis, transposed in zip(operands, (left, right), (0, 1), strict=True)
            )
        found += sum(map(transposed_results, inner(equation)))
        of_products = equation.primitive.name == "dot_general" or any(map(products, inner(equation)))
        if of_products or any(x in computed for x in operands):
            computed.update(equation.outvars)
    return found


def mixer(dtype: str, separate: bool) -> Any:
    blocks = Blocks(32, 32, 8, 2, group=2, one_exponential=True)
    backend = PallasBackend(KernelBlocks(blocks, blocks, blocks, blocks), HOPPER)
    q, k = array(HEADS, LATENTS, WIDTH, dtype=dtype), array(1, POINTS, HEADS, WIDTH, dtype=dtype)
    operands = Operands(q, k, k, *((q, k) if separate else ()))
    statistics, numbers = latents(), array(1, HEADS, POINTS)
    arguments = operands, statistics, (numbers, numbers), k, k, statistics.latents
    return jax.make_jaxpr(lambda *x: backend.operand_gradients(*x, scale=1.0))(*arguments)


def gather(dtype: str) -> Any:
    q, k = array(HEADS, LATENTS, WIDTH, dtype=dtype), array(1, POINTS, HEADS, WIDTH, dtype=dtype)
    blocks = Blocks(32, 32, 8, 2)
    arguments = GatherOperands(q, k, k, None, None), latents(), array(1, HEADS, LATENTS, WIDTH)
    return jax.make_jaxpr(lambda *x: gather_gradients(*x, 1.0, blocks, HOPPER))(*arguments)


def latents() -> Statistics:
    numbers = array(1, HEADS, LATENTS)
    return Statistics(array(1, HEADS, LATENTS, WIDTH), numbers, numbers)


def kernels_named(name: str, program: Any) -> Iterator[Any]:
    """Yield the programs of the Pallas kernels of this name."""
    for equation in program.eqns:
        if equation.primitive.name == "pallas_call" and name in str(equation.params["name"]):
            yield equation.params["jaxpr"]
        for within in inner(equation):
            yield from kernels_named(name, within)


def gradients(function: Any, *arguments: Any) -> Any:
    def program(dy: jax.Array, *x: jax.Array) -> Any:
        return jax.vjp(function, *x)[1](dy)

    return jax.make_jaxpr(program)(array(1, POINTS, HEADS, WIDTH, dtype=arguments[1].dtype), *arguments).jaxpr


def causal(dtype: str, separate: bool) -> Any:
    q, k = array(HEADS, LATENTS, WIDTH, dtype=dtype), array(1, POINTS, HEADS, WIDTH, dtype=dtype)
    names = ["q", "k", "v"] + ["q_decode", "k_decode", "log_decay"] * separate
    arguments = [q, k, k] + [q, k, array(1, POINTS, HEADS)] * separate
    return gradients(lambda *x: causal_flare(**dict(zip(names, x, strict=True)), implementation="pallas"), *arguments)


def gated(dtype: str) -> Any:
    k = array(1, POINTS, HEADS, WIDTH, dtype=dtype)

    def mix(q: jax.Array, k: jax.Array, v: jax.Array, log_decay: jax.Array) -> jax.Array:
        return gated_linear_attention(q, k, v, log_decay=log_decay, implementation="pallas")

    return gradients(mix, k, k, k, array(1, POINTS, HEADS, WIDTH))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("separate", [False, True])
def test_causal_gradients_transpose_only_the_shares_of_their_mixing(dtype, separate):
    """The mixing of tokens sums over latents, which come first in both of its factors."""
    found = list(kernels_named("causal_flare_gradients", causal(dtype, separate)))
    assert found
    assert [transposed_results(x) for x in found] == [1] * len(found)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gated_gradients_transpose_neither_the_keys_of_a_part_nor_its_weights(dtype):
    """Five are left: q for the weights and for the state, pairs for dk, the state for dq, keys for a part's state."""
    found = list(kernels_named("gated_linear_gradients", gated(dtype)))
    assert found
    assert [transposed_results(x) for x in found] == [5] * len(found)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["mixer", "separate", "gather"])
def test_no_transposed_factor_is_computed_from_products(name, dtype):
    """XLA moves transpositions before what is computed element by element, and so computes all of it twice."""
    program = gather(dtype) if name == "gather" else mixer(dtype, name == "separate")
    assert products(program.jaxpr) > 0
    assert transposed_results(program.jaxpr) == 0


def test_a_transposed_factor_that_is_computed_from_a_product_is_found():
    def program(x: jax.Array) -> jax.Array:
        logits = x @ x
        return jax.lax.dot_general(jnp.exp(logits), x, (((0,), (0,)), ((), ())))

    assert transposed_results(jax.make_jaxpr(program)(array(16, 16)).jaxpr) == 1

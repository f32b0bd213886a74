"""Of the walk over pairs of points and latents: nothing that is computed from products is a transposed factor."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from kernels._layout import Blocks
from kernels._statistics import Statistics
from kernels._target import Target
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

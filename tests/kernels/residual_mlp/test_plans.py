"""The plan of the kernels: that it fits the device, and what it follows."""

import contextlib
import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from kernels.residual_mlp import fused, residual_mlp
from tests.kernels.residual_mlp.cases import Case, apply, inputs

CASE = Case(leading=(40,), widths=(16, 16, 16))


class Planned(Exception):
    """Ends a trace that has come as far as the plan, which is all that is asked."""


def chosen(case: Case, arrays: dict, implementation: str = "pallas", copies: int | None = None):
    """Return the plan of the kernels for a call, or for several of it side by side."""
    plans = []
    original = fused.plan_for

    def plan_for(*arguments):
        plans.append(original(*arguments))
        if copies is None:
            raise Planned
        return plans[-1]

    def call(arrays: dict) -> jax.Array:
        return apply(case, arrays, implementation)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "plan_for", plan_for)
        if copies is None:
            with contextlib.suppress(Planned):
                jax.eval_shape(call, arrays)
        else:
            several = jax.tree.map(lambda x: jax.ShapeDtypeStruct((copies, *x.shape), x.dtype), arrays)
            jax.eval_shape(jax.vmap(call), several)
    return plans[-1]


@pytest.mark.parametrize("x", [jnp.zeros((0, 8)), jnp.ones((3, 8), jnp.float16)], ids=["empty", "float16"])
def test_none_serves_what_the_kernels_cannot(x):
    y = residual_mlp(x, [jnp.ones((8, 8))], [jnp.ones(8)], residual_in=False, residual_out=False)
    assert y.shape == x.shape
    assert y.dtype == x.dtype


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("precision", ["default", "highest"])
def test_every_shape_has_a_plan_within_shared_memory(dtype, precision):
    for width in (1, 64, 80, 256):
        for rows in (1, 5000, 1_048_576):
            for inner in (3, 12):
                case = Case(leading=(rows,), widths=(width,) * 3, inner=inner, dtype=dtype, precision=precision)
                plan = chosen(case, jax.eval_shape(functools.partial(inputs_of_shape, case)))
                for tiling, copies in ((plan.forward, 1), (plan.backward, 1 if dtype == "bfloat16" else 2)):
                    weights = copies * (inner + 2) * width**2 * jnp.dtype(dtype).itemsize
                    assert not tiling.resident or weights < 227 * 1024


def inputs_of_shape(case: Case) -> dict:
    """Return inputs without drawing them."""
    width = case.widths[0]
    weights, biases = [jnp.zeros((width, width))] * (case.inner + 2), [jnp.zeros(width)] * (case.inner + 2)
    return {"x": jnp.zeros((*case.leading, width), case.dtype), "branches": ((weights, biases),)}


def test_copies_side_by_side_share_the_device():
    few, many = (Case(leading=(rows,), widths=(64,) * 3, precision="default") for rows in (2000, 32_000))
    shapes = {case: jax.eval_shape(functools.partial(inputs_of_shape, case)) for case in (few, many)}
    alone, together, many = chosen(few, shapes[few]), chosen(few, shapes[few], copies=16), chosen(many, shapes[many])
    assert alone.forward.programs == alone.backward.programs == 65536  # a tile each
    assert together == replace(
        many,
        forward=replace(many.forward, programs=many.forward.programs // 16),
        backward=replace(many.backward, programs=many.backward.programs // 16),
    )


def test_passes_that_end_in_few_columns_are_transposed():
    narrow = {widths: chosen(Case(widths=widths), inputs(Case(widths=widths))) for widths in ((2, 64, 64), (64, 64, 1))}
    assert narrow[2, 64, 64].backward.transposed
    assert not narrow[2, 64, 64].forward.transposed
    assert narrow[64, 64, 1].forward.transposed
    assert not narrow[64, 64, 1].backward.transposed


def test_hidden_layers_alone_may_be_wider_where_all_weights_fit():
    def plan(*widths: int) -> object:
        case = Case(leading=(100_000,), widths=widths, inner=0, projected=widths[0], precision="default")
        return chosen(case, inputs(replace(case, leading=(1,))) | jax.eval_shape(functools.partial(rows_of, case)))

    assert plan(64, 128, 64) == replace(plan(64, 64, 64), structure=plan(64, 128, 64).structure)
    assert plan(64, 128, 64).backward.resident
    assert plan(64, 128, 64).backward.carried
    assert plan(64, 256, 64).backward != plan(64, 128, 64).backward
    assert plan(80, 128, 80).backward != plan(64, 128, 64).backward


def rows_of(case: Case) -> dict:
    """Return what has the rows of a case with a projection."""
    arrays = inputs(replace(case, leading=(1,)))
    rows = {name: jnp.zeros((*case.leading, case.widths[0])) for name in ("x", "skip")}
    return {"x": rows["x"], "projection": replace(arrays["projection"], skip=rows["skip"])}


@pytest.mark.parametrize(("dtype", "width"), [("float32", 64), ("bfloat16", 128)])
def test_single_layers_of_many_rows_read_them_once(dtype, width):
    def plan(rows: int, inner: int) -> object:
        case = Case(leading=(rows,), widths=(width,) * 3, inner=inner, branches=3, dtype=dtype, precision="default")
        x = jax.ShapeDtypeStruct((rows, width), dtype)
        return chosen(case, {"x": x, "branches": 3 * inputs_of_shape(replace(case, leading=(1,)))["branches"]})

    many, few, deep = plan(100_000, -1), plan(1000, -1), plan(100_000, 0)
    assert (many.forward.parallel, many.backward.parallel, many.separate) == (False, False, False)
    assert many.forward.resident
    assert many.backward.resident
    assert few.backward.parallel
    assert deep.backward.parallel


def test_precision_follows_the_configuration():
    arrays = inputs(CASE)
    assert chosen(CASE, arrays).precision == jax.lax.Precision.HIGHEST
    with jax.default_matmul_precision("default"):
        assert chosen(CASE, arrays).precision == jax.lax.Precision.DEFAULT
    assert chosen(replace(CASE, precision="high"), arrays).precision == jax.lax.Precision.HIGH


def test_deep_mlps_have_to_be_named():
    deep = replace(CASE, inner=20)
    assert "on_target" not in str(jax.make_jaxpr(lambda a: apply(deep, a, None))(inputs(deep)))
    assert "on_target" in str(jax.make_jaxpr(lambda a: apply(deep, a, "pallas"))(inputs(deep)))

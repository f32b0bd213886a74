"""Which implementation None means, that a plan always fits the device, and that every plan lowers to Triton."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractDevice, AbstractMesh

from kernels import _pallas
from kernels.residual_mlp import dispatch, residual_mlp
from tests.kernels.residual_mlp.cases import BLOCK, Case, apply, inputs

CASE = Case(leading=(40,), widths=(16, 16, 16))


def count_kernels(case: Case, implementation: str | None, arrays: dict) -> int:
    """Return the number of Pallas calls of one forward pass."""
    jaxpr = jax.make_jaxpr(lambda a: apply(case, a, implementation))(arrays)
    return str(jaxpr).count("pallas_call[")


def chosen(case: Case, arrays: dict, implementation: str | None = "pallas"):
    """Return the plan that dispatch makes for a call."""
    plans = []
    original = dispatch.choose

    def spy(*arguments):
        plans.append(original(*arguments))
        return plans[-1]

    dispatch.choose = spy
    try:
        jax.eval_shape(lambda a: apply(case, a, implementation), arrays)
    finally:
        dispatch.choose = original
    (plan,) = plans
    return plan


def test_none_is_the_reference_without_a_gpu():
    assert count_kernels(CASE, None, inputs(CASE)) == (1 if _pallas.platform() == "gpu" else 0)
    assert count_kernels(CASE, "pallas", inputs(CASE)) == 1


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


def test_passes_that_end_in_few_columns_are_transposed():
    narrow = {widths: chosen(Case(widths=widths), inputs(Case(widths=widths))) for widths in ((2, 64, 64), (64, 64, 1))}
    assert narrow[2, 64, 64].backward.transposed
    assert not narrow[2, 64, 64].forward.transposed
    assert narrow[64, 64, 1].forward.transposed
    assert not narrow[64, 64, 1].backward.transposed


def test_precision_follows_the_configuration():
    arrays = inputs(CASE)
    assert chosen(CASE, arrays).precision == jax.lax.Precision.HIGHEST
    with jax.default_matmul_precision("default"):
        assert chosen(CASE, arrays).precision == jax.lax.Precision.DEFAULT
    assert chosen(replace(CASE, precision="high"), arrays).precision == jax.lax.Precision.HIGH


def test_deep_mlps_and_other_gpus_go_to_the_reference(monkeypatch):
    device = type("Device", (), {"compute_capability": "9.0"})()
    monkeypatch.setattr(dispatch, "platform", lambda: "gpu")
    monkeypatch.setattr(dispatch.jax, "local_devices", lambda backend: [device])
    case = replace(CASE, precision="default")
    assert chosen(case, inputs(case), None) is not None
    deep = replace(case, inner=20)
    assert chosen(deep, inputs(deep), None) is None
    device.compute_capability = "8.6"
    assert chosen(case, inputs(case), None) is None


@pytest.mark.parametrize(
    "case",
    [
        replace(BLOCK, leading=(1944,), widths=(64, 64, 64), projected=64, precision="default"),
        replace(BLOCK, leading=(40_000,), widths=(80, 80, 80), projected=80, dtype="bfloat16"),
        Case(leading=(40_000,), widths=(24, 64, 24), branches=2, norm="layer", precision="default"),
        Case(leading=(1944,), widths=(2, 64, 64), activation="gelu_erf"),
        Case(leading=(200_000,), widths=(200, 200, 1), precision="default", activation="silu"),
    ],
    ids=str,
)
def test_plans_lower_to_triton(case, monkeypatch):
    monkeypatch.setattr(_pallas, "platform", lambda: "gpu")
    shapes = jax.eval_shape(functools.partial(inputs, replace(case, leading=(1,))))
    widen = lambda leaf: jax.ShapeDtypeStruct((*case.leading, *leaf.shape[1:]), leaf.dtype)  # noqa: E731
    shapes["x"] = widen(shapes["x"])
    if case.projected:
        shapes["projection"] = replace(shapes["projection"], skip=widen(shapes["projection"].skip))

    def loss(arrays: dict) -> jax.Array:
        return sum(jnp.sum(y.astype(jnp.float32) ** 2) for y in apply(case, arrays, "pallas"))

    device = AbstractDevice("NVIDIA H100", None, "gpu")
    with jax.sharding.use_abstract_mesh(AbstractMesh((1,), ("x",), abstract_device=device)):
        lowered = jax.jit(jax.value_and_grad(loss)).trace(shapes).lower(lowering_platforms=("cuda",))
    text = lowered.as_text()
    assert text.count("residual_mlp_forward") >= 1
    assert text.count("residual_mlp_backward") >= 1

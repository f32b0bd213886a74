"""Every operation, every row of its launches, forward and backward, is lowered for a GPU, on whatever machine.

A kernel that Pallas no longer takes is seen here. `jax.jit(...).trace(...).lower(lowering_platforms=("cuda",))` goes as
far as the Triton module of each kernel, which needs no GPU; the rest, its compilation, is left to the tests on a GPU.
"""

import functools
import re
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from kernels import (
    _mosaic,
    causal_flare,
    causal_linear_attention,
    flare_mixer,
    gated_linear_attention,
    gather,
    residual_mlp_branches,
    triple_attention,
)
from kernels._implementation import Implementation
from kernels._operation import Launch
from kernels._triton import triton_available
from kernels.residual_mlp import HeadNorm, Norm
from tests.kernels.operations import OPERATIONS

pytestmark = pytest.mark.slow

# Enough points for several splits, and for the rows that have no limit.
MANY = 70_000


def array(*shape: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def points(row: Launch) -> int:
    return row.points or MANY


def mixer(row: Launch, **options: Any) -> tuple[Callable[..., Any], tuple]:
    latents = 60 if getattr(row.blocks, "compact", False) else 70
    q, k = array(2, latents, row.width, dtype=row.dtype), array(1, points(row), 2, row.width, dtype=row.dtype)
    mask = array(1, points(row), dtype=bool)
    implementation = row.implementation
    return lambda q, k, v, mask: flare_mixer(q, k, v, mask=mask, implementation=implementation), (q, k, k, mask)


def keys_as_values(row: Launch) -> tuple[Callable[..., Any], tuple]:
    q, k = array(1, 2, 70, row.width, dtype=row.dtype), array(1, points(row), 2, row.width, dtype=row.dtype)
    precisions = ["highest"] if row.dtype == "bfloat16" else ["highest", "default"]
    return lambda q, k: [gather(q, k, implementation="pallas", precision=x) for x in precisions], (q, k)


def branches(row: Launch) -> tuple[Callable[..., Any], tuple]:
    rows, width = min((row.points or 400_000) // 2, 200_000), row.width
    precision = "highest" if row.dtype == "float32" else "default"
    matrices = ((array(width, width),) * 3, (array(width),) * 3)

    def call(x: jax.Array, scale: jax.Array, first: Any, second: Any) -> Any:
        norm = Norm(scale=scale, bias=None, kind="layer", epsilon=1e-5)
        head_norm = HeadNorm(scale=scale[:16], bias=scale[:16], kind="layer", epsilon=1e-5, heads=width // 16)
        options = {"residual_in": True, "residual_out": True, "norm": norm, "head_norms": [head_norm, None]}
        return residual_mlp_branches(x, (first, second), precision=precision, implementation="pallas", **options)

    x = array(rows, width, dtype="bfloat16" if row.dtype == "bf16" else "float32")
    return call, (x, array(width), matrices, matrices)


def triple(row: Launch) -> tuple[Callable[..., Any], tuple]:
    x = array(1, MANY, 2, row.width, dtype=row.dtype)
    return lambda *x: triple_attention(*x, implementation=row.implementation), (x,) * 5


def causal_linear(row: Launch) -> tuple[Callable[..., Any], tuple]:
    x = array(1, 4000, 2, row.width, dtype=row.dtype)
    return lambda *x: causal_linear_attention(*x, implementation=row.implementation), (x,) * 3


def gated(row: Launch) -> tuple[Callable[..., Any], tuple]:
    x, decay = array(1, 4000, 2, row.width, dtype=row.dtype), array(1, 4000, 2, row.width)

    def call(q: jax.Array, k: jax.Array, v: jax.Array, decay: jax.Array) -> list[jax.Array]:
        options = {"implementation": row.implementation, "return_state": True}
        return [gated_linear_attention(q, k, v, log_decay=x, **options) for x in (decay, decay[..., 0])]

    return call, (x, x, x, decay)


def causal(row: Launch) -> tuple[Callable[..., Any], tuple]:
    q, k = array(2, 70, row.width, dtype=row.dtype), array(1, 4000, 2, row.width, dtype=row.dtype)
    decay = array(1, 4000, 2)

    def call(q: jax.Array, k: jax.Array, v: jax.Array, decay: jax.Array) -> tuple[jax.Array, ...]:
        plain = causal_flare(q, k, v, implementation="pallas")
        # Reads of its own, forgetting and the state: every operand that the kernels can have.
        separate = {"q_decode": 2 * q, "k_decode": 2 * k}
        return plain, causal_flare(q, k, v, **separate, log_decay=decay, implementation="pallas", return_state=True)

    return call, (q, k, k, decay)


CALLS = {
    "flare_mixer": mixer,
    "gather": keys_as_values,
    "residual_mlp": branches,
    "triple_attention": triple,
    "causal_linear_attention": causal_linear,
    "gated_linear_attention": gated,
    "causal_flare": causal,
}


def differentiated(call: Callable[..., Any], arguments: tuple) -> tuple[Callable[..., Any], tuple, tuple]:
    """Return the value and gradient of a sum over the results, its arguments with a gradient, and the masks."""

    def loss(floats: tuple, others: tuple) -> jax.Array:
        return sum(jnp.sum(jnp.square(y.astype(jnp.float32))) for y in jax.tree.leaves(call(*floats, *others)))

    floats = tuple(x for x in arguments if not (isinstance(x, jax.ShapeDtypeStruct) and x.dtype == bool))
    return jax.value_and_grad(loss), floats, arguments[len(floats) :]


def lowered(function: Callable[..., Any], *arguments: Any) -> str:
    """Return the text of the function's program on a GPU."""
    return jax.jit(function).trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()


@functools.cache
def value_and_gradient(name: str, index: int) -> str:
    """Return the text of the program of an operation, forward and backward, as its launch of this number has it."""
    gradient, floats, others = differentiated(*CALLS[name](OPERATIONS[name].launches[index]))
    return lowered(gradient, floats, others)


def counts(text: str) -> tuple[int, int]:
    """Return how many kernels and how many loops a program is on a GPU."""
    names = ("triton_kernel_call", "__gpu$xla.gpu.triton", "custom_call @mosaic_gpu")
    return sum(map(text.count, names)), text.count("stablehlo.while")


@pytest.fixture(autouse=True)
def without_search(monkeypatch):
    """Spare MLIR's search of all folders, for every value of a kernel, for Python modules that there are not."""
    for name in ("jaxlib.mlir.dialects.tt", "jaxlib.mosaic.python.tt", "jax.jaxlib.mosaic.python.tt"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture(autouse=True)
def gpu_meant(monkeypatch):
    """Let a machine without a GPU trace by name what is for GPUs alone: it is lowered for one, and never run."""
    check = Implementation.check_target

    def lenient(self, target, fallback):
        if target.compiled:
            check(self, target, fallback)

    monkeypatch.setattr(Implementation, "check_target", lenient)


def test_a_launch_of_the_residual_mlp_reads_its_parameters_as_one_array():
    index = next(i for i, row in enumerate(OPERATIONS["residual_mlp"].launches) if row.dtype == "tf32")
    operands = re.findall(r"custom_call @__gpu\$xla\.gpu\.triton\(([^)]*)\)", value_and_gradient("residual_mlp", index))
    # x and thirteen parameters of one width; for the gradients of both branches, these and the results' too; their sum
    assert [len(names.split(",")) for names in operands] == [2, 4, 1]


@pytest.mark.parametrize("name", ["flare_mixer", "gather"])
def test_kernels_take_plain_instructions_of_nvidia_gpus(name):
    rows = OPERATIONS[name].launches
    text = value_and_gradient(
        name, next(i for i, row in enumerate(rows) if (row.dtype, row.implementation) == ("bfloat16", "pallas"))
    )
    assert "ex2.approx.ftz.f32" in text
    assert "math.exp2" not in text
    # A kernel's text has each kind of instruction once: every one of them scales logits as it subtracts their maximum.
    assert text.count("fma.rn.f32") == text.count("ex2.approx.ftz.f32") > 1


def test_every_operation_is_lowered():
    assert CALLS.keys() == OPERATIONS.keys()


@pytest.mark.parametrize(
    ("name", "index"),
    [
        pytest.param(
            name,
            index,
            id=f"{name}-{row.implementation}-{row.dtype}-{row.width}-{row.points}",
            marks=pytest.mark.skipif(
                (row.implementation == "triton" and not triton_available())
                or (row.implementation == "mosaic" and _mosaic.why_unavailable() is not None),
                reason="needs the extra [triton], or jax 0.11",
            ),
        )
        for name, operation in OPERATIONS.items()
        for index, row in enumerate(operation.launches)
    ],
)
def test_forward_and_backward_are_lowered_for_cuda(name, index):
    kernels, _ = counts(value_and_gradient(name, index))
    assert kernels >= 2, "no kernels in the program"


@pytest.mark.parametrize("name", OPERATIONS)
def test_several_problems_at_once_are_as_many_kernels_and_no_loop(name):
    """What training several seeds in one program does: points, latents and weights all have an axis more."""
    rows = OPERATIONS[name].launches
    index = next(i for i, row in enumerate(rows) if row.implementation == "pallas")
    gradient, floats, others = differentiated(*CALLS[name](rows[index]))
    eight = jax.tree.map(lambda x: array(8, *x.shape, dtype=x.dtype), floats)
    together = lowered(jax.vmap(gradient, in_axes=(0, None)), eight, others)
    assert counts(together) == counts(value_and_gradient(name, index))


@pytest.mark.parametrize("name", OPERATIONS)
def test_kernels_count_in_32_bits_where_jax_has_64(name):
    rows = OPERATIONS[name].launches
    row = next(row for row in rows if row.implementation == "pallas")
    gradient, floats, others = differentiated(*CALLS[name](row))
    with jax.enable_x64(True):
        kernels, _ = counts(lowered(gradient, floats, others))
    assert kernels >= 2, "no kernels in the program"

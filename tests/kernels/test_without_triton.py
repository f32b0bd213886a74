"""A JAX without the Triton lowering of Pallas: every operation is lowered for a GPU without it, or says why not.

`jax.jit(...).trace(...).lower(lowering_platforms=("cuda",))` needs no GPU.
"""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax._src.pallas.triton import lowering

from kernels import (
    causal_flare,
    causal_linear_attention,
    flare_mixer,
    flarepp_mixer,
    gated_linear_attention,
    gather,
    residual_mlp,
    residual_mlp_branches,
    stablemax_flare,
    triple_attention,
    without_pallas_triton,
)
from kernels._implementation import Implementation, Request
from kernels._target import Target
from tests.kernels.operations import OPERATIONS

Q, X, MASK, DECAY = jnp.ones((2, 4, 16)), jnp.ones((1, 40, 2, 16)), jnp.ones((1, 40), bool), jnp.zeros((1, 40, 2))
ROWS, WEIGHT, BIAS = jnp.ones((40, 32)), jnp.eye(32), jnp.zeros(32)
RESIDUAL = {"residual_in": True, "residual_out": True, "precision": "default"}

# Of the inputs [H, M, D], [B, N, H, D], rows, weight and bias.
CALLS = {
    "flare_mixer": lambda q, x, *_: flare_mixer(q, x, x, mask=MASK),
    "gather": lambda q, x, *_: gather(q, x),
    "flarepp_mixer": lambda q, x, *_: flarepp_mixer(q, q, jnp.ones(2), x, x, x, scale=1.0),
    "residual_mlp": lambda q, x, rows, w, b: residual_mlp(rows, [w, w], [b, b], **RESIDUAL),
    "residual_mlp_branches": lambda q, x, rows, w, b: residual_mlp_branches(rows, 2 * (([w, w], [b, b]),), **RESIDUAL),
    "triple_attention": lambda q, x, *_: triple_attention(x, x, x, x, x),
    "causal_linear_attention": lambda q, x, *_: causal_linear_attention(x, x, x),
    "gated_linear_attention": lambda q, x, *_: gated_linear_attention(x, x, x, log_decay=DECAY),
    "causal_flare": lambda q, x, *_: causal_flare(q, x, x, log_decay=DECAY, mask=MASK),
    "causal_flare with blocks": lambda q, x, *_: causal_flare(q, x, x, block=8),
    "stablemax_flare": lambda q, x, *_: stablemax_flare(q, x, x),
}
HAVE_PALLAS = (
    "flare_mixer",
    "gather",
    "residual_mlp",
    "triple_attention",
    "causal_linear_attention",
    "gated_linear_attention",
    "causal_flare",
    "stablemax_flare",
)


def lower(name: str, dtype: str = "float32") -> str:
    """Return the program of the value and gradient of an operation for a GPU."""

    def loss(*operands):
        return sum(jnp.sum(jnp.square(y.astype(jnp.float32))) for y in jax.tree.leaves(CALLS[name](*operands)))

    operands = [x.astype(dtype) for x in (Q, X, ROWS, WEIGHT, BIAS)]
    gradient = jax.value_and_grad(loss, argnums=tuple(range(len(operands))))
    return jax.jit(gradient).trace(*operands).lower(lowering_platforms=("cuda",)).as_text()


@pytest.fixture
def removed(monkeypatch):
    """Make Pallas' Triton lowering fail, and jax-triton be absent."""

    def fail(*_, **__):
        raise NotImplementedError("the Triton lowering is gone")

    monkeypatch.setattr(lowering, "lower_jaxpr_to_triton_module", fail)
    monkeypatch.setattr(Implementation, "missing", lambda self: list(self.packages))


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_forward_and_backward_are_lowered_without_it(name, dtype, removed):
    with without_pallas_triton():
        assert "__gpu$xla.gpu.triton" not in lower(name, dtype)


@pytest.mark.parametrize("name", HAVE_PALLAS)
def test_it_is_what_they_would_take(name, removed):
    with pytest.raises(NotImplementedError, match="is gone"):
        lower(name)


def test_the_environment_switches_it_off_for_all(removed, monkeypatch):
    monkeypatch.setenv("FLARE_JAX_PALLAS_TRITON", "off")
    assert "__gpu$xla.gpu.triton" not in lower("flare_mixer")
    monkeypatch.setenv("FLARE_JAX_PALLAS_TRITON", "0")
    with pytest.raises(ValueError, match=r"^FLARE_JAX_PALLAS_TRITON is '0'; set it to on or off, or unset it\.$"):
        flare_mixer(Q, X, X)


def test_a_traced_function_is_traced_again(removed):
    call = jax.jit(lambda q, x: gather(q, x))

    def text():
        return call.trace(Q, X).lower(lowering_platforms=("cuda",)).as_text()

    with without_pallas_triton():
        text()
    with pytest.raises(NotImplementedError, match="is gone"):
        text()


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_a_named_implementation_does_not_fall_back(operation):
    request = Request(operation.launches[0].dtype, 16)
    with (
        without_pallas_triton(),
        pytest.raises(ValueError, match=r"'pallas' needs Pallas' Triton lowering, which kernels\.without_.*; use"),
    ):
        operation.resolve("pallas", request)


def test_jax_triton_takes_over_where_it_is_installed(monkeypatch):
    monkeypatch.setattr(Implementation, "missing", lambda self: [])

    def chosen(name, dtype, width):
        return OPERATIONS[name].resolve(None, Request(dtype, width)).on(Target("cuda", (9, 0))).implementation

    assert chosen("causal_linear_attention", "bfloat16", 64) == "pallas"
    with without_pallas_triton():
        assert chosen("causal_linear_attention", "bfloat16", 64) == "triton"
        assert chosen("triple_attention", "bfloat16", 64) == "triton"
        assert chosen("triple_attention", "float32", 64) == "xla"
        assert chosen("flare_mixer", "bfloat16", 16) == "xla"


WITHOUT_MODULE = """
import sys
sys.modules["jax.experimental.pallas.triton"] = None
import jax, jax.numpy as jnp
from kernels import flare_mixer
q, x = jnp.ones((2, 4, 16)), jnp.ones((1, 40, 2, 16))
call = jax.jit(jax.grad(lambda q: flare_mixer(q, x, x).sum())).trace(q)
assert "triton" not in call.lower(lowering_platforms=("cuda",)).as_text()
try:
    flare_mixer(q, x, x, implementation="pallas")
except ValueError as error:
    print(error)
"""


def test_a_jax_without_the_module_is_enough():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_MODULE],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    expected = f"'pallas' needs Pallas' Triton lowering, which jax {jax.__version__} does not have; use"
    assert expected in done.stdout

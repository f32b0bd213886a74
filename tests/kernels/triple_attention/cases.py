"""Inputs for the tests of triple attention, and the comparison of all outputs and gradients of two implementations."""

import functools
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from kernels import triple_attention
from kernels.triple_attention import table
from tests.numerics import assert_close, round_to_bfloat16

NAMES = ("q1", "q2", "k1", "k2", "v")


@dataclass(frozen=True)
class Case:
    """Sizes and options of one call; `size` is the standard deviation of all inputs."""

    batch: int = 2
    points: int = 37
    heads: int = 2
    width: int = 8
    channels: int = 8
    size: float = 1.0
    dtype: str = "float32"
    tiled: bool = False  # small tiles and chunks, so that few points and narrow heads have many of them

    def __str__(self) -> str:
        return "-".join(f"{k}={v}" for k, v in vars(self).items() if v != getattr(Case, k)) or "plain"


def use_small_tiles(monkeypatch) -> None:
    """Make every implementation cut its work into many small parts."""
    blocks = table.Blocks(rows=16, slices=4, warps=4, programs=24)
    launches = table.KernelBlocks(*[blocks] * 3)
    monkeypatch.setattr(table, "OPERATION", table.OPERATION.with_launch(launches))
    monkeypatch.setattr(table, "chunk_elements", lambda target: 3000)


@functools.cache
def inputs(case: Case) -> dict[str, jax.Array]:
    """Return seeded operands."""
    rng = np.random.default_rng(0)
    widths = dict.fromkeys(NAMES, case.width) | {"v": case.channels}
    return {
        name: jnp.asarray(case.size * rng.standard_normal((case.batch, case.points, case.heads, width)), case.dtype)
        for name, width in widths.items()
    }


def differentiated(attend):
    """Return the function of y, the state and all gradients of `attend`, for fixed random cotangents of both."""

    def run(operands: dict) -> dict:
        (y, state), pull_back = jax.vjp(lambda f: attend(*(f[name] for name in NAMES)), operands)
        dy, d_state = (jax.random.normal(jax.random.key(i), x.shape) for i, x in enumerate((y, state)))
        # Rounded to bfloat16 first, so that every implementation sees the same cotangent.
        (gradients,) = pull_back((round_to_bfloat16(dy).astype(y.dtype), d_state))
        return {"y": y, "state": state} | {f"d{name}": gradients[name] for name in NAMES}

    return run


def outputs_and_gradients(implementation: str | None, operands: dict[str, jax.Array]) -> dict:
    """Return y, the state and the gradients of all operands."""
    attend = functools.partial(triple_attention, implementation=implementation, return_state=True)
    run = jax.jit(differentiated(attend))
    return {name: np.asarray(x, np.float64) for name, x in run(operands).items()}


@functools.cache
def expected(case: Case) -> dict:
    """Return the float32 reference on the inputs of `case` (as rounded to its dtype)."""
    return outputs_and_gradients("reference", {name: x.astype(jnp.float32) for name, x in inputs(case).items()})


def assert_agrees(case: Case, implementation: str | None, ratio: float) -> None:
    """Compare all outputs and gradients with the reference, by RMS ratio."""
    actual = outputs_and_gradients(implementation, inputs(case))
    references = expected(replace(case, tiled=False))
    assert actual.keys() == references.keys()
    for name, value in references.items():
        assert_close(f"{implementation} {name}", actual[name], value, ratio)

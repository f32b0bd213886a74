"""Inputs for the tests of causal linear attention, and the comparison of all outputs and gradients."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels import causal_linear_attention
from kernels._triton import triton_available
from kernels.causal_linear_attention import table
from tests.numerics import assert_close, cotangent, round_to_bfloat16

NEEDS_TRITON = pytest.mark.skipif(not triton_available(), reason="needs the extra [triton]")
TRITON = pytest.param("triton", marks=[pytest.mark.gpu, NEEDS_TRITON])


@dataclass(frozen=True)
class Case:
    """Sizes and options of one call; `tiled` cuts it into many small parts, `paired` joins gradients in one walk."""

    batch: int = 2
    points: int = 37
    heads: int = 2
    width: int = 8
    channels: int = 8
    scale: float | None = None
    normalize: bool = False
    masked: bool = False
    state: bool = True
    size: float = 1.0
    dtype: str = "float32"
    tiled: bool = False
    paired: bool = True

    def __str__(self) -> str:
        return "-".join(f"{k}={v}" for k, v in vars(self).items() if v != getattr(Case, k)) or "plain"


def use_small_tiles(monkeypatch, paired: bool = True) -> None:
    """Make every implementation cut its work into many small parts, the values' columns included."""
    blocks = table.Blocks(points=16, columns=16, warps=4)
    launches = table.KernelBlocks(12, blocks, blocks, pair=blocks if paired else None)
    monkeypatch.setattr(table, "OPERATION", table.OPERATION.with_launch(launches))
    monkeypatch.setattr(table, "chunk_points", lambda width: 8)


def inputs(case: Case) -> dict[str, jax.Array]:
    """Return seeded arguments; queries and keys of normalised cases are positive, as feature maps make them."""
    rng = np.random.default_rng(0)
    tokens = (case.batch, case.points, case.heads)
    arrays = {
        "q": case.size * rng.standard_normal((*tokens, case.width)),
        "k": case.size * rng.standard_normal((*tokens, case.width)),
        "v": rng.standard_normal((*tokens, case.channels)),
    }
    if case.normalize:
        arrays |= {name: np.abs(arrays[name]) for name in "qk"}
    # Converted by numpy: compiling a conversion for each shape would take longer than some of the tests.
    arguments = {name: jnp.asarray(x.astype(jnp.dtype(case.dtype))) for name, x in arrays.items()}
    if case.state:
        shape = (case.batch, case.heads, case.width, case.channels + int(case.normalize))
        state = rng.standard_normal(shape)
        state[..., -1] = np.abs(state[..., -1])
        arguments["initial_state"] = jnp.asarray(state.astype(np.float32))
    if case.masked:
        mask = rng.random((case.batch, case.points)) < 0.6
        mask[-1] = False
        arguments["mask"] = jnp.asarray(mask)
    return arguments


@functools.cache
def evaluator(implementation: str | None, scale: float | None, normalize: bool, tiled: bool) -> Callable[[dict], dict]:
    """Return the jitted function of the arguments to y, the state and gradients, which cases of the same shapes share.

    It is traced with the launches of its first call; `tiled` says which these are.
    """

    @jax.jit
    def evaluate(arguments: dict) -> dict:
        def attend(floats: dict) -> tuple[jax.Array, jax.Array]:
            return causal_linear_attention(
                **floats,
                mask=arguments.get("mask"),
                scale=scale,
                normalize=normalize,
                implementation=implementation,
                return_state=True,
            )

        floats = {name: x for name, x in arguments.items() if name != "mask"}
        (y, state), pull_back = jax.vjp(attend, floats)
        dy, dstate = (cotangent(i, x.shape) for i, x in enumerate((y, state)))
        # Rounded to bfloat16 first, so that every implementation sees the same cotangent.
        (gradients,) = pull_back((round_to_bfloat16(dy).astype(y.dtype), dstate))
        return {"y": y, "state": state} | {f"d{name}": x for name, x in gradients.items()}

    return evaluate


def outputs_and_gradients(implementation: str | None, arguments: dict[str, jax.Array], case: Case) -> dict:
    """Return y, the final state and the gradients of all float arguments, for fixed random cotangents of both."""
    evaluate = evaluator(implementation, case.scale, case.normalize, case.tiled)
    return {name: np.asarray(x, np.float64) for name, x in evaluate(arguments).items()}


@functools.cache
def expected(case: Case) -> dict:
    """Return the float32 reference on the inputs of `case` (as rounded to its dtype)."""
    arguments = inputs(case)
    arguments |= {name: jnp.asarray(np.asarray(arguments[name]).astype(np.float32)) for name in "qkv"}
    return outputs_and_gradients("reference", arguments, case)


def assert_agrees(case: Case, implementation: str | None, ratio: float) -> None:
    """Compare all outputs and gradients with the reference, by RMS ratio."""
    actual = outputs_and_gradients(implementation, inputs(case), case)
    references = expected(replace(case, tiled=False))
    assert actual.keys() == references.keys()
    for name, value in references.items():
        assert_close(f"{implementation} {name}", actual[name], value, ratio)

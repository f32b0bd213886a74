"""Inputs for the tests of the mixer, and the comparison of all outputs and gradients of two implementations."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from kernels import _chunked, flare_mixer
from kernels._tiling import Blocks
from kernels.flare_mixer import table
from tests.numerics import assert_close, cotangent, round_to_bfloat16


@dataclass(frozen=True)
class Case:
    """Sizes and options of one call; `logits` is about the largest logit, `channels` the width of v."""

    batch: int = 2
    points: int = 37
    heads: int = 2
    latents: int = 8
    width: int = 8
    channels: int | None = None
    logits: float = 8.0
    scale: float = 1.0
    masked: bool = False
    per_sample: bool = False
    decode_width: int | None = None
    dtype: str = "float32"
    tiled: bool = False  # small tiles and chunks, so that few points and latents have many of them

    def __str__(self) -> str:
        return "-".join(f"{k}={v}" for k, v in vars(self).items() if v != getattr(Case, k)) or "plain"


def use_small_tiles(monkeypatch) -> None:
    """Make every implementation cut its work into many small parts."""
    blocks = Blocks(points=16, latents=16, programs=12, warps=4)
    launches = table.KernelBlocks(blocks, blocks, blocks, replace(blocks, group=2, one_exponential=True))
    monkeypatch.setattr(table, "OPERATION", table.OPERATION.with_launch(launches))
    monkeypatch.setattr(_chunked, "chunk_elements", lambda target: 500)


def inputs(case: Case) -> dict[str, jax.Array]:
    """Return seeded arguments; a masked case has an arbitrary mask, one sample of it without any real point."""
    rng = np.random.default_rng(0)

    def normal(*shape: int, factor: float = 1.0) -> jax.Array:
        # Made by numpy: compiling a few operations for each case would take longer than the tests.
        return jnp.asarray((factor * rng.standard_normal(shape)).astype(jnp.dtype(case.dtype)))

    def latents(width: int) -> jax.Array:
        shape = (case.heads, case.latents, width)
        # Logits of normals reach about four standard deviations.
        factor = case.logits / (4 * case.scale * width**0.5)
        return normal(*((case.batch, *shape) if case.per_sample else shape), factor=factor)

    arguments = {
        "q": latents(case.width),
        "k": normal(case.batch, case.points, case.heads, case.width),
        "v": normal(case.batch, case.points, case.heads, case.channels or case.width),
    }
    if case.decode_width:
        arguments["q_decode"] = latents(case.decode_width)
        arguments["k_decode"] = normal(case.batch, case.points, case.heads, case.decode_width)
    if case.masked:
        mask = rng.random((case.batch, case.points)) < 0.6
        mask[-1] = False
        arguments["mask"] = jnp.asarray(mask)
    return arguments


def with_broken_padding(arguments: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Return the arguments with NaN at masked points of k and v: what stands there reaches nothing."""
    if "mask" not in arguments:
        return arguments
    hole = ~arguments["mask"][:, :, None, None]
    return arguments | {name: jnp.where(hole, jnp.nan, arguments[name]) for name in ("k", "v")}


def evaluator(implementation: str | None, scale: float) -> Callable[[dict], dict]:
    """Return the jitted function of the arguments to all outputs and gradients."""

    @jax.jit
    def evaluate(arguments: dict) -> dict:
        mask = arguments.get("mask")
        (y, z), pull_back = jax.vjp(
            lambda f: flare_mixer(**f, mask=mask, scale=scale, implementation=implementation, return_latents=True),
            {name: x for name, x in arguments.items() if name != "mask"},
        )
        dy, dz = (cotangent(i, x.shape) for i, x in enumerate((y, z)))
        # Rounded to bfloat16 first, so that every implementation sees the same cotangent.
        (gradients,) = pull_back((round_to_bfloat16(dy).astype(y.dtype), dz))
        return {"y": y, "z": z} | {f"d{name}": x for name, x in gradients.items()}

    return evaluate


@functools.cache
def shared_evaluator(implementation: str | None, scale: float, tiled: bool) -> Callable[[dict], dict]:
    """Return the function that the cases of the same shapes and tiles share."""
    return evaluator(implementation, scale)


def outputs_and_gradients(implementation: str | None, arguments: dict[str, jax.Array], scale: float) -> dict:
    """Return y, z and the gradients of all float arguments, for fixed random cotangents of y and z."""
    return _in_float64(evaluator(implementation, scale)(arguments))


def _in_float64(results: dict) -> dict:
    return {name: np.asarray(x, np.float64) for name, x in results.items()}


@functools.cache
def expected(case: Case) -> dict:
    """Return the float32 reference on the inputs of `case` (as rounded to its dtype)."""
    exact = {name: np.asarray(x).astype(bool if name == "mask" else np.float32) for name, x in inputs(case).items()}
    arguments = {name: jnp.asarray(x) for name, x in exact.items()}
    return _in_float64(shared_evaluator("reference", case.scale, False)(arguments))


def assert_agrees(case: Case, implementation: str | None, ratio: float) -> None:
    """Compare all outputs and gradients with the reference, by RMS ratio."""
    actual = _in_float64(shared_evaluator(implementation, case.scale, case.tiled)(inputs(case)))
    references = expected(replace(case, tiled=False))
    assert actual.keys() == references.keys()
    for name, value in references.items():
        assert_close(f"{implementation} {name}", actual[name], value, ratio)

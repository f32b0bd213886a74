"""Inputs for the tests of the gather, and the comparison of outputs and gradients of two implementations."""

import functools
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from kernels import _chunked, gather
from kernels._tiling import Blocks
from kernels.gather import table
from tests.numerics import assert_close


@dataclass(frozen=True)
class Case:
    """Sizes and options of one call; `logits` is about the largest logit; `channels` 0 takes the keys as values."""

    batch: int = 2
    points: int = 37
    heads: int = 2
    latents: int = 8
    width: int = 8
    channels: int = 8
    logits: float = 8.0
    scale: float = 1.0
    masked: bool = False
    per_sample: bool = False
    dtype: str = "float32"
    precision: str = "highest"
    tiled: bool = False  # small tiles and chunks, so that few points and latents have many of them

    def __str__(self) -> str:
        return "-".join(f"{k}={v}" for k, v in vars(self).items() if v != getattr(Case, k)) or "plain"


def use_small_tiles(monkeypatch) -> None:
    """Make every implementation cut its work into many small parts."""
    blocks = Blocks(points=16, latents=16, programs=12, warps=4)
    launches = table.KernelBlocks(blocks, replace(blocks, group=2))
    monkeypatch.setattr(table, "OPERATION", table.OPERATION.with_launch(launches))
    monkeypatch.setattr(_chunked, "chunk_elements", lambda target: 500)


def inputs(case: Case) -> dict[str, jax.Array]:
    """Return seeded arguments; a masked case has an arbitrary mask, one sample of it without any real point."""
    rng = np.random.default_rng(0)

    def normal(*shape: int, factor: float = 1.0) -> jax.Array:
        return jnp.asarray((factor * rng.standard_normal(shape)).astype(jnp.dtype(case.dtype)))

    shape = (case.heads, case.latents, case.width)
    arguments = {
        # Logits of normals reach about four standard deviations.
        "q": normal(
            *((case.batch, *shape) if case.per_sample else shape),
            factor=case.logits / (4 * case.scale * case.width**0.5),
        ),
        "k": normal(case.batch, case.points, case.heads, case.width),
    }
    if case.channels:
        arguments["v"] = normal(case.batch, case.points, case.heads, case.channels)
    if case.masked:
        mask = rng.random((case.batch, case.points)) < 0.6
        mask[-1] = False
        arguments["mask"] = jnp.asarray(mask)
    return arguments


def outputs_and_gradients(
    implementation: str | None, arguments: dict[str, jax.Array], scale: float, precision: str = "highest"
) -> dict:
    """Return z and the gradients of all float arguments, for a fixed random cotangent."""
    mask = arguments.get("mask")
    floats = {name: x for name, x in arguments.items() if name != "mask"}

    @jax.jit
    def evaluate(floats: dict) -> dict:
        options = {"mask": mask, "scale": scale, "precision": precision, "implementation": implementation}
        z, pull_back = jax.vjp(lambda f: gather(**f, **options), floats)
        (gradients,) = pull_back(jax.random.normal(jax.random.key(0), z.shape))
        return {"z": z} | {f"d{name}": x for name, x in gradients.items()}

    return {name: np.asarray(x, np.float64) for name, x in evaluate(floats).items()}


@functools.cache
def expected(case: Case) -> dict:
    """Return the float32 reference on the inputs of `case` (as rounded to its dtype)."""
    exact = {name: np.asarray(x).astype(bool if name == "mask" else np.float32) for name, x in inputs(case).items()}
    arguments = {name: jnp.asarray(x) for name, x in exact.items()}
    return outputs_and_gradients("reference", arguments, case.scale)


def assert_agrees(case: Case, implementation: str | None, ratio: float) -> None:
    """Compare all outputs and gradients with the reference, by RMS ratio."""
    actual = outputs_and_gradients(implementation, inputs(case), case.scale, case.precision)
    references = expected(replace(case, tiled=False))
    assert actual.keys() == references.keys()
    for name, value in references.items():
        assert_close(f"{implementation} {name}", actual[name], value, ratio)

"""Inputs for the tests of the mixer of FLARE++, and its outputs and gradients."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from kernels import flare_mixer, flarepp_mixer
from kernels._tiling import Blocks
from kernels.flare_mixer import table as flare_mixer_table
from kernels.gather import table as gather_table
from tests.numerics import cotangent, round_to_bfloat16


@dataclass(frozen=True)
class Case:
    """Sizes and options of one call; `logits` is about the largest logit of both softmaxes over the points."""

    batch: int = 2
    points: int = 37
    heads: int = 2
    latents: int = 8
    width: int = 8
    channels: int = 8
    logits: float = 8.0
    scale: float = 0.5
    masked: bool = False
    values: bool = False  # v0 is not k0
    dtype: str = "float32"
    precision: str = "highest"

    def __str__(self) -> str:
        return "-".join(f"{k}={v}" for k, v in vars(self).items() if v != getattr(Case, k)) or "plain"


def use_small_tiles(monkeypatch, compact: bool) -> None:
    """Cut few points into several splits, and the latents that meet them in the gathers into tiles."""
    few, all_latents = (Blocks(points=16, latents=latents, programs=12, warps=4) for latents in (16, 32))
    launches = flare_mixer_table.KernelBlocks(few, all_latents, few, all_latents, compact=compact)
    operation = flare_mixer_table.OPERATION.with_launch(launches)
    monkeypatch.setattr(flare_mixer_table, "OPERATION", operation)
    operation = gather_table.OPERATION.with_launch(gather_table.KernelBlocks(few, all_latents))
    monkeypatch.setattr(gather_table, "OPERATION", operation)


def inputs(case: Case) -> dict[str, jax.Array]:
    """Return seeded arguments; a masked case has an arbitrary mask, one sample of it without any real point."""
    rng = np.random.default_rng(0)

    def normal(*shape: int, factor: float = 1.0, dtype: str = case.dtype) -> jax.Array:
        return jnp.asarray((factor * rng.standard_normal(shape)).astype(jnp.dtype(dtype)))

    # Logits of normals reach about four standard deviations.
    size = case.logits / (4 * case.scale * case.width**0.5)
    latents, points = (case.heads, case.latents, case.width), (case.batch, case.points, case.heads)
    arguments = {
        "q0": normal(*latents, factor=size),
        "q_fixed": normal(*latents, factor=size, dtype="float32"),
        "gate": normal(case.heads, dtype="float32"),
        **{name: normal(*points, case.width) for name in ("k0", "k")},
        "v": normal(*points, case.channels),
    }
    if case.values:
        arguments["v0"] = normal(*points, case.width)
    if case.masked:
        mask = rng.random((case.batch, case.points)) < 0.6
        mask[-1] = False
        arguments["mask"] = jnp.asarray(mask)
    return arguments


@functools.cache
def evaluator(
    implementation: str | None, scale: float, precision: str = "highest", tiles: str = "default", seeds: bool = False
) -> Callable[[dict], dict]:
    """Return the jitted function of arguments to all outputs, latents too, and the gradients of all float arguments.

    Cases of the same shapes share it. It is traced with the launches of its first call; `tiles` says which these are.
    With `seeds` all arguments but the mask have an axis more, as in a program that trains several seeds.
    """

    def evaluate(arguments: dict, mask: jax.Array | None) -> dict:
        options = {"mask": mask, "scale": scale, "implementation": implementation, "synthesis_precision": precision}
        (y, latents), pull_back = jax.vjp(lambda x: flarepp_mixer(**x, **options, return_latents=True), arguments)
        outputs = {"y": y} | latents._asdict()
        cotangents = [cotangent(i, x.shape) for i, x in enumerate(outputs.values())]
        # Rounded to bfloat16 first, so that every implementation sees the same cotangent.
        cotangents = round_to_bfloat16(cotangents[0]).astype(y.dtype), type(latents)(*cotangents[1:])
        (gradients,) = pull_back(cotangents)
        return outputs | {f"d{name}": x for name, x in gradients.items()}

    return jax.jit(jax.vmap(evaluate, in_axes=(0, None)) if seeds else evaluate)


def outputs_and_gradients(
    case: Case, implementation: str | None, arguments: dict | None = None, tiles: str = "default", seeds: bool = False
) -> dict:
    """Return what the `evaluator` gives, in float64; the arguments are those of the case if not given."""
    arguments = dict(inputs(case) if arguments is None else arguments)
    mask = arguments.pop("mask", None)
    results = evaluator(implementation, case.scale, case.precision, tiles, seeds)(arguments, mask)
    return {name: np.asarray(x, np.float64) for name, x in results.items()}


@functools.cache
def expected(case: Case) -> dict:
    """Return the float32 reference on the inputs of `case`, as rounded to its dtype."""
    exact = {name: x if name == "mask" else x.astype(jnp.float32) for name, x in inputs(case).items()}
    return outputs_and_gradients(replace(case, precision="highest"), "reference", exact)


@functools.cache
def size_of_gate_terms(case: Case) -> float:
    """Return ‖dq·q_dynamic‖ / ‖dgate‖ of the reference: by how much the terms of the gate's gradient cancel.

    That gradient is the sum over samples, latents and channels of the products of what the points gave for each number
    of the queries with the gradient of this number.
    """
    arguments, found = inputs(replace(case, dtype="float32")), expected(case)
    options = {"mask": arguments.get("mask"), "scale": case.scale, "implementation": "reference"}

    @jax.jit
    def gradient_of_queries(q: jax.Array) -> jax.Array:
        (y, z), pull_back = jax.vjp(
            lambda q: flare_mixer(q, arguments["k"], arguments["v"], **options, return_latents=True), q
        )
        # The cotangents of the `evaluator`.
        return pull_back((round_to_bfloat16(cotangent(0, y.shape)), cotangent(3, z.shape)))[0] + cotangent(2, q.shape)

    terms = np.asarray(gradient_of_queries(jnp.float32(found["q"])), np.float64) * found["q_dynamic"]
    np.testing.assert_allclose(terms.sum(axis=(0, 2, 3)), found["dgate"], rtol=1e-3, atol=1e-4 * np.linalg.norm(terms))
    return float(np.linalg.norm(terms) / np.linalg.norm(found["dgate"]))

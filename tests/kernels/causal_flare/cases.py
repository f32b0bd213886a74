"""Inputs for the tests of the causal mixer, and the comparison of all outputs, states and gradients."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from kernels import causal_flare
from kernels.causal_flare import State, table
from tests.numerics import assert_close, cotangent, round_to_bfloat16


@dataclass(frozen=True)
class Case:
    """Sizes and options of one call; `logits` is about the largest logit, `tiled` cuts it into many small parts.

    `decay` is about the largest log decay with its sign changed; with `resets` some tokens forget everything.
    """

    batch: int = 2
    points: int = 37
    heads: int = 2
    latents: int = 5
    width: int = 8
    channels: int = 8
    logits: float = 8.0
    scale: float = 1.0
    masked: bool = False
    decode_width: int | None = None
    state: bool = True
    dtype: str = "float32"
    tiled: bool = False
    decay: float = 0.0
    resets: bool = False

    def __str__(self) -> str:
        return "-".join(f"{k}={v}" for k, v in vars(self).items() if v != getattr(Case, k)) or "plain"


def use_small_tiles(monkeypatch) -> None:
    """Make every implementation cut tokens into several splits of several tiles, and latents into several tiles."""
    blocks = table.Blocks(tokens=16, long_tokens=32, latents=16, programs=8, warps=4)
    monkeypatch.setattr(table, "OPERATION", table.OPERATION.with_launch(blocks))
    monkeypatch.setattr(table, "chunk_sizes", lambda target: (4, 3, 500))


def inputs(case: Case) -> dict:
    """Return seeded arguments; the last sample of a masked case has no real token."""
    rng = np.random.default_rng(0)
    tokens, latents = (case.batch, case.points, case.heads), (case.heads, case.latents)

    def queries(width: int) -> np.ndarray:
        # Logits of normals reach about four standard deviations.
        return rng.standard_normal((*latents, width)) * case.logits / (4 * case.scale * width**0.5)

    arrays = {
        "q": queries(case.width),
        "k": rng.standard_normal((*tokens, case.width)),
        "v": rng.standard_normal((*tokens, case.channels)),
    }
    if case.decode_width:
        arrays["q_decode"] = queries(case.decode_width)
        arrays["k_decode"] = rng.standard_normal((*tokens, case.decode_width))
    # Converted by numpy: compiling a conversion for each shape would take longer than some of the tests.
    arguments = {name: jnp.asarray(x.astype(jnp.dtype(case.dtype))) for name, x in arrays.items()}
    if case.state:
        shape = (case.batch, *latents)
        mass = 1 + rng.random(shape)
        total = mass[..., None] * rng.standard_normal((*shape, case.channels))
        arguments["initial_state"] = State(
            *(jnp.asarray(x.astype(np.float32)) for x in (rng.standard_normal(shape), mass, total))
        )
    if case.decay:
        decay = -case.decay * rng.random(tokens)
        if case.resets:
            forgets = rng.random(tokens) < 0.1
            decay = np.where(forgets, np.where(rng.random(tokens) < 0.5, -np.inf, -1e30), decay)
        arguments["log_decay"] = jnp.asarray(decay.astype(np.float32))
    if case.masked:
        mask = rng.random((case.batch, case.points)) < 0.6
        mask[-1] = False
        arguments["mask"] = jnp.asarray(mask)
    return arguments


@functools.cache
def evaluator(implementation: str | None, scale: float, tiled: bool) -> Callable[[dict], tuple]:
    """Return the jitted function of the arguments to y, the state and gradients, which cases of the same shapes share.

    It is traced with the launches of its first call; `tiled` says which these are.
    """

    @jax.jit
    def evaluate(arguments: dict) -> tuple:
        mask = arguments.get("mask")

        def mix(floats: dict) -> tuple[jax.Array, State]:
            return causal_flare(**floats, mask=mask, scale=scale, implementation=implementation, return_state=True)

        (y, state), pull_back = jax.vjp(mix, {name: x for name, x in arguments.items() if name != "mask"})
        # Rounded to bfloat16 first, so that every implementation sees the same cotangent.
        dy = round_to_bfloat16(cotangent(0, y.shape)).astype(y.dtype)
        dmass, dtotal = (cotangent(i, x.shape) for i, x in enumerate(state[1:]))
        return y, state, pull_back((dy, State(jnp.zeros_like(state.maximum), dmass, dtotal)))[0]

    return evaluate


def outputs_and_gradients(implementation: str | None, arguments: dict, scale: float, tiled: bool) -> dict:
    """Return y, the state and the gradients of all float arguments, for random cotangents of y, mass and total."""
    y, state, gradients = evaluator(implementation, scale, tiled)(arguments)
    dstate = gradients.pop("initial_state", State(None, None, None))
    named = {"y": y} | state._asdict()
    named |= {f"d{name}": x for name, x in gradients.items()}
    named |= {f"dinitial {name}": x for name, x in dstate._asdict().items() if x is not None}
    return {name: np.asarray(x, np.float64) for name, x in named.items()}


@functools.cache
def expected(case: Case) -> dict:
    """Return the float32 reference on the inputs of `case` (as rounded to its dtype)."""
    arguments = inputs(case)
    arguments |= {
        name: jnp.asarray(np.asarray(x).astype(np.float32)) for name, x in arguments.items() if name[0] in "qkv"
    }
    return outputs_and_gradients("reference", arguments, case.scale, False)


def assert_agrees(case: Case, implementation: str | None, ratio: float) -> None:
    """Compare all outputs and gradients with the reference, by RMS ratio."""
    actual = outputs_and_gradients(implementation, inputs(case), case.scale, case.tiled)
    references = expected(replace(case, tiled=False))
    assert actual.keys() == references.keys()
    for name, value in references.items():
        assert_close(f"{implementation} {name}", actual[name], value, ratio)

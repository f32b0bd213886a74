"""The mixer of FLARE++ as one operation against the reference, which is two: outputs and all gradients.

For few points its kernels are its own, "compact"; else, "general", they are those of the gather and of the FLARE mixer.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels import flarepp_mixer
from tests.kernels.flarepp_mixer.cases import (
    Case,
    expected,
    inputs,
    outputs_and_gradients,
    size_of_gate_terms,
    use_small_tiles,
)
from tests.numerics import assert_close

# Most tests run the programs of this case with other numbers.
MASKED = Case(points=70, latents=20, masked=True)
CASES = [
    MASKED,
    Case(points=41, latents=18, width=24, channels=20, values=True),
    Case(points=33, latents=32, heads=3, batch=1),
]
HALF = Case(dtype="bfloat16", points=51, width=16, channels=16, masked=True)


@pytest.fixture(params=["compact", "general"])
def kernels(request, monkeypatch) -> str:
    """Return which kernels run, in small tiles."""
    use_small_tiles(monkeypatch, request.param == "compact")
    return request.param


def assert_agrees(case: Case, implementation: str | None, ratio: float, tiles: str = "default") -> None:
    """Compare all outputs and gradients with the reference, by RMS ratio."""
    actual, references = outputs_and_gradients(case, implementation, tiles=tiles), expected(case)
    assert actual.keys() == references.keys()
    # The gate's gradient is a sum of products, both factors of which coarse products leave with errors of up to the
    # ratio, so each term has √2 times as much; the terms cancel, their errors, of either sign, add up as squares.
    terms = 2**0.5 * size_of_gate_terms(case) if case.precision == "default" else 1.0
    for name, value in references.items():
        bound = ratio * max(1.0, terms) if name == "dgate" else ratio
        assert_close(f"{implementation} {name}", actual[name], value, bound)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_float32_agrees_with_reference(case, kernels):
    assert_agrees(case, "pallas", ratio=1e-5, tiles=kernels)


def test_large_logits_stay_finite_and_accurate(kernels):
    # Float32 logits of 300 are themselves only known to 2e-5, and the queries of the second softmax are results.
    assert_agrees(replace(MASKED, logits=300.0), "pallas", ratio=1e-3, tiles=kernels)


def test_bfloat16_agrees_with_float32(kernels):
    assert_agrees(HALF, "pallas", ratio=3e-2, tiles=kernels)


def test_coarse_products_are_those_of_the_synthesis_alone(kernels):
    case = replace(MASKED, precision="default")
    assert_agrees(case, "pallas", ratio=3e-3, tiles=kernels)
    found = outputs_and_gradients(case, "pallas", tiles=kernels)
    error = np.linalg.norm(found["q_dynamic"] - expected(MASKED)["q_dynamic"])
    assert error > 2e-5 * np.linalg.norm(found["q_dynamic"])


def test_chunks_agree_with_reference():
    assert_agrees(MASKED, "xla", ratio=1e-5)


def test_seeds_at_once_are_seeds_one_by_one(kernels):
    arguments = inputs(MASKED)
    mask = {"mask": arguments.pop("mask")}
    seeds = [arguments, {name: jnp.flip(x, axis=0) + 0.1 for name, x in arguments.items()}]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *seeds)
    together = outputs_and_gradients(MASKED, "pallas", stacked | mask, kernels, seeds=True)
    for seed, arguments in enumerate(seeds):
        for name, value in outputs_and_gradients(MASKED, "pallas", arguments | mask, kernels).items():
            assert_close(f"{name} of seed {seed}", together[name][seed], value, 1e-6)


def test_padding_never_leaks(kernels):
    arguments = inputs(MASKED)
    hole = ~arguments["mask"][:, :, None, None]
    poisoned = arguments | {name: jnp.where(hole, jnp.nan, arguments[name]) for name in ("k0", "k", "v")}
    clean, found = (outputs_and_gradients(MASKED, "pallas", x, kernels) for x in (arguments, poisoned))
    jax.tree.map(np.testing.assert_array_equal, clean, found)
    for name in ("y", "dk0", "dk", "dv"):
        assert not np.any(found[name][~np.asarray(arguments["mask"])])


@pytest.mark.parametrize(("q0", "k0", "gate"), [(1e4, 1e-4, 1e3), (1e-6, 1e6, 1e-6)])
def test_sizes_of_operands_do_not_matter(q0, k0, gate, kernels):
    arguments = inputs(MASKED)
    arguments |= {"q0": q0 * arguments["q0"], "k0": k0 * arguments["k0"], "gate": gate * arguments["gate"]}
    references = outputs_and_gradients(MASKED, "reference", arguments)
    for name, value in outputs_and_gradients(MASKED, "pallas", arguments, kernels).items():
        size = float(np.max(np.abs(references[name])))
        assert_close(name, value / size, references[name] / size, 1e-5)


def lowered(latents: int, points: int) -> str:
    """Return the program of forward and backward for a GPU."""
    shapes = dict.fromkeys(("q0", "q_fixed"), (8, latents, 8)) | {"gate": (8,)}
    shapes |= dict.fromkeys(("k0", "k", "v"), (2, points, 8, 8))
    arguments = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}

    def step(arguments: dict) -> dict:
        y, pull_back = jax.vjp(lambda x: flarepp_mixer(**x, scale=0.35, implementation="pallas"), arguments)
        return pull_back(y)[0]

    return jax.jit(step).trace(arguments).lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize(("latents", "points", "between"), [(64, 972, False), (65, 972, True), (64, 2049, True)])
def test_nothing_stands_between_the_kernels(latents, points, between):
    """Maxima of operands and the merging of splits are programs of XLA where there are many latents or points."""
    text = lowered(latents, points)
    assert text.count("stablehlo.custom_call @") == 6
    for operation in ("maximum", "exponential", "divide", "multiply"):
        assert (f"stablehlo.{operation} " in text) == between, operation


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("dtype", "precision", "ratio"),
    [("float32", "highest", 1e-5), ("float32", "default", 3e-3), ("bfloat16", "highest", 3e-2)],
)
@pytest.mark.parametrize(
    "case",
    [
        Case(points=972, heads=8, latents=64),
        Case(points=1531, heads=4, latents=40, masked=True, values=True, logits=20.0),
        Case(points=5001, heads=4, latents=100, width=16, channels=16),
        Case(points=66_001, heads=2, latents=40, width=16, channels=16),
    ],
    ids=str,
)
def test_default_launches_agree_on_gpu(case, dtype, precision, ratio):
    assert_agrees(replace(case, dtype=dtype, precision=precision), "pallas", ratio=ratio)

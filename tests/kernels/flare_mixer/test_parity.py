"""Every implementation against the reference: outputs and gradients, over shapes, masks, dtypes and large logits.

What is computed twice by the kernels is the same to the last bit.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels._implementation import Request
from kernels._tiles import LOG2_E
from kernels.flare_mixer import pallas_backward, table
from tests.kernels.flare_mixer.cases import (
    Case,
    assert_agrees,
    inputs,
    outputs_and_gradients,
    shared_evaluator,
    use_small_tiles,
)
from tests.numerics import assert_close

FLOAT32 = [
    Case(points=5, latents=3, width=4),
    Case(points=97, latents=40, width=24, tiled=True),
    Case(batch=1, points=64, latents=16, width=16, tiled=True),
    Case(channels=20, width=12, scale=0.3),
    Case(masked=True, points=70, latents=20, tiled=True),
    Case(per_sample=True, latents=19),
    Case(decode_width=24, masked=True, points=41, latents=18, per_sample=True, tiled=True),
]
# For kernels, which lay wide heads out in their own way; to XLA the width is a number.
WIDE = [
    Case(batch=1, heads=1, latents=5, width=64),
    Case(batch=1, heads=1, latents=20, width=128, tiled=True),
]
# Of the shapes of a case above, whose programs it runs.
LARGE_LOGITS = Case(logits=500.0, points=70, latents=20, masked=True, tiled=True)
HALF = [
    Case(dtype="bfloat16", points=51, width=16),
    Case(dtype="bfloat16", points=50, latents=20, masked=True, tiled=True),
]
# Larger than the interpreter can run: many splits and tiles with the launches that users get.
ON_GPU = [
    Case(batch=2, points=972, heads=8, latents=64, width=8),
    Case(batch=2, points=7225, heads=16, latents=256, width=4),
    Case(batch=1, points=40_001, heads=8, latents=100, width=16),
    Case(batch=3, points=5001, heads=4, latents=256, width=32, masked=True),
    Case(batch=1, points=5001, heads=2, latents=600, width=64, decode_width=40),
    Case(batch=1, points=3001, heads=2, latents=130, width=128),
]


@pytest.fixture(autouse=True)
def small_tiles(request, monkeypatch):
    """Cut the work of tiled cases into small parts."""
    callspec = getattr(request.node, "callspec", None)
    if callspec is None or callspec.params.get("case", LARGE_LOGITS).tiled:
        use_small_tiles(monkeypatch)


@pytest.mark.parametrize("implementation", ["xla", "pallas"])
@pytest.mark.parametrize("case", FLOAT32, ids=str)
def test_float32_agrees_with_reference(case, implementation):
    assert_agrees(case, implementation, ratio=1e-5)


@pytest.mark.parametrize("case", WIDE, ids=str)
def test_wide_heads_agree_with_reference(case):
    assert_agrees(case, "pallas", ratio=1e-5)


@pytest.mark.parametrize("implementation", ["xla", "pallas"])
def test_large_logits_stay_finite_and_accurate(implementation):
    # Float32 logits of 500 are themselves only known to 3e-5.
    assert_agrees(LARGE_LOGITS, implementation, ratio=5e-4)


def test_kernels_are_deterministic():
    run = shared_evaluator("pallas", LARGE_LOGITS.scale, LARGE_LOGITS.tiled)
    first, second = (run(inputs(replace(LARGE_LOGITS, logits=8.0))) for _ in range(2))
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


# Differences of slopes that nearly cancel, in bfloat16; one exponential beyond its range would be all wrong.
@pytest.mark.parametrize(("dtype", "factor", "ratio"), [("bfloat16", 60.0, 1e-1), ("float32", 6.0, 2e-5)])
def test_each_head_chooses_between_one_exponential_and_two(dtype, factor, ratio, monkeypatch):
    """The kernel of the operands' gradients shares an exponential where the logits' range allows it."""
    arguments = inputs(Case(points=50, latents=20, masked=True, dtype=dtype))
    arguments["mask"] = arguments["mask"].at[-1, :9].set(True)
    arguments["q"] = arguments["q"] * jnp.array([1.0, factor], dtype)[:, None, None]
    references = []
    choose = pallas_backward.one_exponential

    def recorded(*maxima):
        reference, factors = choose(*maxima)
        return jax.pure_callback(lambda x: references.append(x) or x, reference, reference), factors

    monkeypatch.setattr(pallas_backward, "one_exponential", recorded)
    actual = outputs_and_gradients("pallas", arguments, 1.0)
    exact = {name: x if name == "mask" else x.astype(jnp.float32) for name, x in arguments.items()}
    for name, value in outputs_and_gradients("reference", exact, 1.0).items():
        assert_close(name, actual[name], value, ratio)
    np.testing.assert_array_equal(np.isinf(references[0][..., 0]), [[False, True]] * 2)


def test_one_exponential_keeps_the_bits_of_float32_up_to_its_widest_range(monkeypatch):
    """Latents' maxima span 11.8 powers of two, of the 12 allowed; both forms are compared head by head."""
    arguments = inputs(Case(batch=1, points=300, latents=40, width=16))
    logits = LOG2_E * jnp.einsum("hmd,bnhd->hmn", arguments["q"], arguments["k"], precision="highest")
    maxima = jnp.max(logits, axis=-1)
    # The latent with the largest maximum gets what the range needs; the others keep theirs.
    least, largest = jnp.min(maxima, axis=-1), jnp.max(maxima, axis=-1)
    scale = jnp.where(maxima == largest[:, None], ((least + 11.8) / largest)[:, None], 1.0)
    arguments["q"] = arguments["q"] * scale[..., None]
    launches = table.OPERATION.launch_for("pallas", Request("float32", 16, 300)).blocks
    results = []
    for shared in (True, False):
        blocks = replace(launches, operand_gradients=replace(launches.operand_gradients, one_exponential=shared))
        monkeypatch.setattr(table, "OPERATION", table.OPERATION.with_launch(blocks))
        results.append(outputs_and_gradients("pallas", arguments, 1.0))
    assert any(np.any(results[0][name] != results[1][name]) for name in results[0])
    for name, value in results[1].items():
        for head in range(2):
            axis = {"dq": 0, "z": 1}.get(name, 2)
            assert_close(
                f"{name} of head {head}", np.take(results[0][name], head, axis), np.take(value, head, axis), 2e-6
            )


@pytest.mark.parametrize("implementation", ["xla", "pallas", pytest.param("cudnn", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("case", HALF, ids=str)
def test_bfloat16_agrees_with_float32(case, implementation):
    assert_agrees(case, implementation, ratio=2e-2)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("case", ON_GPU, ids=str)
def test_default_launches_agree_on_gpu(case, dtype):
    assert_agrees(replace(case, dtype=dtype), "pallas", ratio={"float32": 1e-5, "bfloat16": 2e-2}[dtype])

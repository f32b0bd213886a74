"""The mixer's kernels for Hopper: in the interpreter against the reference, on a GPU, and where they cannot run."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels import _mosaic, flare_mixer, without_pallas_triton
from kernels._implementation import Request
from kernels._target import Target
from kernels.flare_mixer import table
from kernels.flare_mixer.mosaic_launch import MosaicBlocks, Tiles
from tests.kernels.flare_mixer.cases import Case, assert_agrees, inputs, with_broken_padding
from tests.numerics import assert_close

interpreted = pytest.mark.skipif(_mosaic.why_unavailable() is not None, reason="needs the interpreter of jax 0.11")

# Rows and streams of several tiles, splits of the points, and what is ragged in each.
CASES = [
    Case(dtype="bfloat16", batch=1, points=151, latents=70, width=16, heads=2),
    Case(batch=2, points=70, latents=20, heads=1, channels=20, masked=True, logits=500.0),
    Case(batch=1, points=41, latents=18, heads=1, decode_width=24, per_sample=True),
]
RATIOS = {"float32": 1e-5, "bfloat16": 2e-2}


def outputs_and_gradients(implementation, arguments, scale):
    """Return y, z and all gradients, outside of `jax.jit`, which the interpreter does not enter."""
    mask, rng = arguments.get("mask"), np.random.default_rng(1)
    floats = {name: x for name, x in arguments.items() if name != "mask"}

    def call(floats):
        return flare_mixer(**floats, mask=mask, scale=scale, implementation=implementation, return_latents=True)

    (y, z), pull_back = jax.vjp(call, floats)
    cotangents = tuple(jnp.asarray(rng.standard_normal(x.shape).astype(x.dtype)) for x in (y, z))
    return {"y": y, "z": z, **pull_back(cotangents)[0]}


@interpreted
@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_interpreted_kernels_agree_with_reference(case, monkeypatch):
    small = Tiles(stream=16, programs=6, warpgroups=1, tiles=1 if case.channels else 2)
    monkeypatch.setattr(table, "OPERATION", table.OPERATION.with_launch(MosaicBlocks(small, replace(small, tiles=1))))
    arguments = inputs(case)
    exact = {name: x if name == "mask" else x.astype(jnp.float32) for name, x in arguments.items()}
    expected = outputs_and_gradients("reference", exact, case.scale)
    actual = outputs_and_gradients("mosaic", with_broken_padding(arguments), case.scale)
    ratio = 5e-4 if case.logits > 100 else RATIOS[case.dtype]
    for name, value in expected.items():
        assert_close(name, actual[name], value, ratio)


@interpreted
def test_an_interpreted_kernel_says_that_it_cannot_be_compiled():
    q, x = jnp.ones((1, 4, 16)), jnp.ones((1, 20, 1, 16))
    with pytest.raises(ValueError, match=r"interpreted on a cpu has effects.* call it outside of jax\.jit"):
        jax.jit(lambda q: flare_mixer(q, x, x, implementation="mosaic")).trace(q).lower()


@pytest.mark.skipif(_mosaic.why_unavailable() is None, reason="this JAX has it")
def test_an_older_jax_says_so():
    q, x = jnp.ones((1, 4, 16)), jnp.ones((1, 20, 1, 16))
    with pytest.raises(
        ValueError, match=r"'mosaic' needs Mosaic GPU, which jax 0\.\d+\.\d+ .*; use implementation 'xla'"
    ):
        flare_mixer(q, x, x, implementation="mosaic")


@interpreted
@pytest.mark.parametrize("capability", [(8, 0), (10, 0)])
def test_other_gpus_than_hopper_say_so(capability):
    selection = table.OPERATION.resolve("mosaic", Request("bfloat16", 16))
    with pytest.raises(
        ValueError, match="'mosaic' needs an NVIDIA GPU of compute capability 9, and this is an NVIDIA GPU"
    ):
        selection.on(Target("cuda", capability))


@interpreted
@pytest.mark.parametrize(
    ("capability", "points", "expected"),
    [((9, 0), 2**20, "mosaic"), ((9, 0), 2**18, "xla"), ((8, 0), 2**20, "xla"), ((10, 0), 2**20, "xla")],
)
def test_it_is_chosen_for_many_points_where_there_is_no_triton_lowering(capability, points, expected):
    """On a GPU its forward passes were slower than Triton's, and all of it faster than XLA."""
    request, target = Request("bfloat16", 16, points), Target("cuda", capability)
    with without_pallas_triton():
        assert table.OPERATION.resolve(None, request).on(target).implementation == expected
    assert table.OPERATION.resolve(None, request).on(target).implementation == "pallas"


@pytest.mark.gpu
@interpreted
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "case",
    [
        Case(batch=2, points=972, heads=8, latents=64, width=8),
        Case(batch=1, points=40_001, heads=8, latents=512, width=16),
        Case(batch=3, points=5001, heads=4, latents=256, width=32, masked=True),
        Case(batch=1, points=5001, heads=2, latents=600, width=64, decode_width=40),
    ],
    ids=str,
)
def test_default_launches_agree_on_gpu(case, dtype):
    assert_agrees(replace(case, dtype=dtype), "mosaic", ratio=RATIOS[dtype])

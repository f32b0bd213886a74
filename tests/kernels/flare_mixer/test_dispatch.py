"""The tables that choose implementations and launches."""

import itertools

import jax
import jax.numpy as jnp
import pytest

from kernels.flare_mixer import dispatch
from kernels.flare_mixer.operands import Operands
from kernels.flare_mixer.pallas_tiles import Tiling


def operands(dtype="bfloat16", width=16, points=1000, latents=64, values=None):
    q = jax.ShapeDtypeStruct((8, latents, width), dtype)
    k = jax.ShapeDtypeStruct((2, points, 8, width), dtype)
    v = jax.ShapeDtypeStruct((2, points, 8, values or width), dtype)
    return Operands(q, k, v)


@pytest.mark.parametrize(
    ("platform", "dtype", "width", "values", "implementation"),
    [
        ("cpu", "float32", 16, 16, "xla"),
        ("tpu", "bfloat16", 64, 64, "xla"),
        ("gpu", "float32", 4, 4, "pallas"),
        ("gpu", "bfloat16", 128, 128, "pallas"),
        ("gpu", "bfloat16", 8, 200, "xla"),
        ("gpu", "float16", 16, 16, "xla"),
    ],
)
def test_choice_by_device_dtype_and_width(monkeypatch, platform, dtype, width, values, implementation):
    monkeypatch.setattr(dispatch, "platform", lambda: platform)
    assert dispatch.resolve(None, operands(dtype, width, values=values), None) == implementation


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_shape_has_a_launch(dtype):
    for width, points in itertools.product((1, 4, 8, 16, 24, 64, 96, 128), (1, 972, 2048, 2049, 10**6)):
        blocks = dispatch.kernel_blocks(operands(dtype, width, points))
        for kernel in vars(blocks).values():
            sides = (kernel.points, kernel.latents)
            assert all(side >= 16 and side & (side - 1) == 0 for side in sides), kernel
            assert kernel.warps in (1, 2, 4, 8, 16)


@pytest.mark.parametrize(("points", "programs"), [(1, 1), (100, 7), (1000, 1000), (4097, 33)])
def test_splits_cover_all_points(points, programs):
    blocks = dispatch.Blocks(points=16, latents=16, programs=programs, warps=4)
    tiling = Tiling.create(blocks, points, 20, 4, masked=False, all_latents=True)
    assert tiling.splits * tiling.split_points >= points
    assert (tiling.splits - 1) * tiling.split_points < points
    assert tiling.splits <= max(1, programs // 4)


def test_dispatch_follows_the_default_device():
    with jax.default_device(jax.devices("cpu")[0]):
        assert dispatch.platform() == "cpu"
        assert dispatch.resolve(None, operands(), None) == "xla"


def test_dtypes_of_arrays_and_table_match():
    assert all(jnp.dtype(row.dtype).name == row.dtype for row in dispatch.LAUNCHES)

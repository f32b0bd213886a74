"""The tables that choose implementations and launches."""

import pytest

from kernels.causal_linear_attention import dispatch
from kernels.causal_linear_attention.shapes import SHAPES


@pytest.mark.parametrize(
    ("platform", "dtype", "width", "implementation"),
    [
        ("cpu", "float32", 16, "xla"),
        ("tpu", "bfloat16", 64, "xla"),
        ("gpu", "float32", 4, "pallas"),
        ("gpu", "bfloat16", 128, "pallas"),
        ("gpu", "bfloat16", 200, "xla"),
        ("gpu", "float16", 16, "xla"),
    ],
)
def test_choice_by_device_dtype_and_width(monkeypatch, platform, dtype, width, implementation):
    monkeypatch.setattr(dispatch, "platform", lambda: platform)
    assert dispatch.resolve(None, dtype, width) == implementation


@pytest.mark.parametrize("implementation", ["pallas", "triton"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_shape_has_a_launch(dtype, implementation):
    for width in (1, 4, 16, 24, 64, 96, 128):
        blocks = dispatch.kernel_blocks(implementation, dtype, width)
        for kernel in (blocks.sums, blocks.mix):
            assert all(side >= 16 and side & (side - 1) == 0 for side in (kernel.points, kernel.columns)), kernel
            assert kernel.warps in (1, 2, 4, 8, 16)
        assert blocks.exact in ("tf32x3", "ieee")


@pytest.mark.parametrize(("points", "heads"), [(1, 1), (100, 7), (1000, 1000), (4097, 3)])
def test_splits_cover_all_points_in_whole_tiles(points, heads):
    blocks = dispatch.KernelBlocks(33, dispatch.Blocks(16, 16, 4), dispatch.Blocks(32, 16, 4))
    split = blocks.split_points(points, heads)
    splits = -(-points // split)
    assert split % 32 == 0
    assert splits * split >= points > (splits - 1) * split
    assert splits <= max(1, 33 // heads)


def test_few_heads_still_fill_the_device():
    shape = SHAPES["long_d64"]
    blocks = dispatch.kernel_blocks("pallas", "bfloat16", shape.width)
    programs = shape.heads * -(-shape.points // blocks.split_points(shape.points, shape.batch * shape.heads))
    assert programs >= 264  # two for each of the 132 multiprocessors of an H100

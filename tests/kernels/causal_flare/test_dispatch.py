"""The tables that choose implementations and launches."""

import pytest

from kernels.causal_flare import dispatch
from kernels.causal_flare.shapes import SHAPES


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


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_shape_has_a_launch(dtype):
    for width in (1, 4, 16, 24, 64, 96, 128):
        blocks = dispatch.kernel_blocks(dtype, width)
        sides = (blocks.tokens, blocks.long_tokens, blocks.latents)
        assert all(side >= 16 and side & (side - 1) == 0 for side in sides), blocks
        assert blocks.warps in (1, 2, 4, 8, 16)
        assert blocks.exact in ("tf32x3", "ieee")


@pytest.mark.parametrize(("tokens", "heads"), [(1, 1), (100, 7), (1000, 1000), (4097, 3)])
def test_splits_cover_all_tokens_in_whole_tiles(tokens, heads):
    blocks = dispatch.Blocks(tokens=16, long_tokens=64, latents=16, programs=33, warps=4)
    split = blocks.split_tokens(tokens, heads)
    splits = -(-tokens // split)
    assert split % 64 == 0
    assert splits * split >= tokens > (splits - 1) * split
    assert splits <= max(1, 33 // heads)


def test_few_heads_still_fill_the_device():
    shape = SHAPES["long_m64"]
    blocks = dispatch.kernel_blocks("bfloat16", shape.width)
    programs = shape.heads * -(-shape.points // blocks.split_tokens(shape.points, shape.batch * shape.heads))
    assert programs >= 132  # the multiprocessors of an H100

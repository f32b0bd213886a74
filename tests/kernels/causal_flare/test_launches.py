"""How launches cut their work."""

import pytest

from kernels._operation import Request
from kernels.causal_flare import table
from kernels.causal_flare.shapes import SHAPES


@pytest.mark.parametrize(("tokens", "heads"), [(1, 1), (100, 7), (1000, 1000), (4097, 3)])
def test_splits_cover_all_tokens_in_whole_tiles(tokens, heads):
    blocks = table.Blocks(tokens=16, long_tokens=64, latents=16, programs=33, warps=4)
    split = blocks.split_tokens(tokens, heads)
    splits = -(-tokens // split)
    assert split % 64 == 0
    assert splits * split >= tokens > (splits - 1) * split
    assert splits <= max(1, 33 // heads)


def test_few_heads_still_fill_the_device():
    shape = SHAPES["long_m64"]
    blocks = table.OPERATION.launch_for("pallas", Request("bfloat16", shape.width)).blocks
    programs = shape.heads * -(-shape.points // blocks.split_tokens(shape.points, shape.batch * shape.heads))
    assert programs >= 132  # the multiprocessors of an H100

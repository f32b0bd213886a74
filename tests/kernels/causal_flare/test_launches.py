"""How launches cut their work."""

import jax
import jax.numpy as jnp
import pytest

from kernels._implementation import Request
from kernels._target import Target
from kernels.causal_flare import table
from kernels.causal_flare.operands import Operands
from kernels.causal_flare.pallas import PallasBackend
from kernels.causal_flare.pallas_layout import Layout
from kernels.causal_flare.shapes import SHAPES
from kernels.causal_flare.tile import Latents


@pytest.mark.parametrize(("latents", "dtype"), [(16, "bfloat16"), (17, "float32")])
def test_outputs_of_a_single_tile_of_latents_are_rounded_where_they_are_computed(latents, dtype):
    blocks = table.Blocks(tokens=16, long_tokens=32, latents=16, programs=8, warps=4)
    q, k = (jax.ShapeDtypeStruct(shape, "bfloat16") for shape in ((2, latents, 8), (1, 40, 2, 8)))
    tile = Latents(jax.ShapeDtypeStruct((2, 16, 8), "bfloat16"), None, jnp.zeros(16))
    layout = Layout.create(blocks, tile, Operands(q, k, k), Target("cpu"))
    assert layout.token_output(8).dtype == dtype


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


@pytest.mark.parametrize(("latents", "tile", "warps"), [(32, 32, 4), (64, 64, 4), (65, 128, 8), (300, 128, 8)])
def test_wide_tiles_of_latents_have_warps_of_their_own(latents, tile, warps):
    blocks = table.OPERATION.launch_for("pallas", Request("bfloat16", 64)).blocks
    assert PallasBackend(blocks, Target("cpu")).tile_latents(latents) == tile
    assert blocks.warps_of(tile) == warps

"""How launches cut their work."""

import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from kernels._implementation import Request
from kernels._operation import H200
from kernels._target import Target
from kernels.causal_linear_attention import table, triton
from kernels.causal_linear_attention.shapes import SHAPES


@pytest.mark.parametrize(("points", "heads"), [(1, 1), (100, 7), (1000, 1000), (4097, 3)])
def test_splits_cover_all_points_in_whole_tiles(points, heads):
    blocks = table.KernelBlocks(33, table.Blocks(16, 16, 4), table.Blocks(32, 16, 4))
    split = blocks.split_points(points, heads)
    splits = -(-points // split)
    assert split % 32 == 0
    assert splits * split >= points > (splits - 1) * split
    assert splits <= max(1, 33 // heads)


def test_few_heads_still_fill_the_device():
    shape = SHAPES["long_d64"]
    blocks = table.OPERATION.launch_for("pallas", Request("bfloat16", shape.width)).blocks
    programs = shape.heads * -(-shape.points // blocks.split_points(shape.points, shape.batch * shape.heads))
    assert programs >= 264  # two for each of the 132 multiprocessors of an H100


@pytest.mark.parametrize("width", [64, 128])
def test_gpus_with_less_shared_memory_take_a_smaller_launch(width):
    selection = table.OPERATION.resolve("pallas", Request("bfloat16", width, 10**5))
    large, small = (selection.on(Target("cuda", capability)).launch for capability in ((9, 0), (8, 9)))
    assert large.measured == H200
    assert small.shared_memory <= 99 * 1024 < large.shared_memory


def test_copies_that_vmap_adds_are_cut_as_one_is(monkeypatch):
    """The states that are kept for the backward pass have so many splits as one copy has, whatever runs."""
    kernels = SimpleNamespace(sums_kernel=None, mix_kernel=None)
    monkeypatch.setitem(sys.modules, "kernels.causal_linear_attention.triton_kernels", kernels)
    launched = []

    def zeros(kernel, out_shape, constants, **options):
        launched.append(constants["split_points"])
        return lambda *operands: [jnp.zeros(x.shape, x.dtype) for x in out_shape]

    monkeypatch.setattr(triton, "triton_call", zeros)
    blocks = table.Blocks(16, 16, 4)
    backend = triton.TritonBackend(table.KernelBlocks(12, blocks, blocks), Target("cuda"))
    x = jax.ShapeDtypeStruct((3, 2, 100, 2, 16), jnp.float32)
    sums = jax.eval_shape(jax.vmap(backend.outer_sums), x, x)
    assert sums.shape == (3, 2, 2, 3, 16, 16)
    assert backend.blocks.split_points(100, 2 * 2) == 48
    y = jax.eval_shape(jax.vmap(lambda x, starts: backend.mix(x, x, x, starts, 1.0, False)), x, sums)
    assert y.shape == x.shape
    assert set(launched) == {48}

"""How launches cut their work."""

import pytest

from kernels._layout import Blocks, Tiling


@pytest.mark.parametrize(("points", "programs"), [(1, 1), (100, 7), (1000, 1000), (4097, 33)])
def test_splits_cover_all_points(points, programs):
    blocks = Blocks(points=16, latents=16, programs=programs, warps=4)
    tiling = Tiling.create(blocks, points, 20, 4, masked=False, all_latents=True)
    assert tiling.splits * tiling.split_points >= points
    assert (tiling.splits - 1) * tiling.split_points < points
    assert tiling.splits <= max(1, programs // 4)

"""How launches cut their work, and the layouts of the state."""

import jax.numpy as jnp
import numpy as np
import pytest

from kernels.triple_attention import table
from kernels.triple_attention.tiling import LARGEST_PARTIAL_ELEMENTS, Tiling


@pytest.mark.parametrize(
    "row", table.OPERATION.launches, ids=lambda row: f"{row.implementation}-{row.dtype}-{row.width}"
)
def test_accumulators_fit_the_registers(row):
    blocks, width = row.blocks, row.width
    for launch in vars(blocks).values():
        tiling = Tiling.create(launch, (2, 1000, 8, width), width)
        sides = (tiling.rows, tiling.padded_width, tiling.padded_channels, 16 * tiling.slices)
        assert all(side >= 16 and side & (side - 1) == 0 for side in sides), launch
        # Accumulators that overflow the registers would spill.
        rows = tiling.slices * tiling.padded_width if launch is blocks.accumulate else tiling.rows
        columns = tiling.padded_channels if launch is blocks.accumulate else tiling.slices * tiling.padded_channels
        assert rows * columns <= 128 * 32 * launch.warps


@pytest.mark.parametrize("shape", [(1, 1, 1, 4), (2, 100, 3, 24), (1, 500_000, 8, 32), (4, 4097, 2, 128)])
def test_splits_cover_all_points_and_partial_states_stay_small(shape):
    for programs in (1, 12, 528):
        tiling = Tiling.create(table.Blocks(rows=32, slices=4, warps=4, programs=programs), shape, shape[-1])
        split = tiling.tiles_per_split * tiling.rows
        assert tiling.splits * split >= shape[1] > (tiling.splits - 1) * split
        assert tiling.splits <= max(1, programs // (shape[0] * shape[2] * tiling.chunks))
        assert tiling.splits == 1 or np.prod(tiling.partial_shape.shape) <= LARGEST_PARTIAL_ELEMENTS


def test_state_layouts_are_inverse_to_each_other():
    tiling = Tiling.create(table.Blocks(rows=16, slices=4, warps=4), (2, 20, 3, 6), 5)
    state = jnp.arange(2 * 3 * 6 * 5 * 6, dtype=jnp.float32).reshape(2, 3, 6, 5, 6)
    wide = tiling.rows_of_width(state, state.dtype)
    assert wide.shape == (2, 3, 16, 8 * 16)
    by_slice = wide.reshape(2, 3, 16, 8, 16).transpose(0, 1, 3, 2, 4).reshape(2, 3, 1, 8 * 16, 16)
    np.testing.assert_array_equal(tiling.merge(by_slice), state)
    tall = tiling.rows_of_channels(state, state.dtype).reshape(2, 3, 16, 8, 16)
    np.testing.assert_array_equal(tall.transpose(0, 1, 4, 2, 3)[:, :, :6, :5, :6], state)

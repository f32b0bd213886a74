"""The tables that choose implementations and launches, and how launches cut their work."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels.triple_attention import dispatch
from kernels.triple_attention.contractions import Contractions, Operands
from kernels.triple_attention.pallas import PallasContractions
from kernels.triple_attention.tiling import LARGEST_PARTIAL_ELEMENTS, Tiling
from kernels.triple_attention.triton import TritonContractions


def operands(dtype="bfloat16", width=16, points=1000, channels=None):
    q = jax.ShapeDtypeStruct((2, points, 8, width), dtype)
    return Operands(q, q, q, q, jax.ShapeDtypeStruct((2, points, 8, channels or width), dtype))


@pytest.mark.parametrize(
    ("platform", "dtype", "width", "channels", "implementation"),
    [
        ("cpu", "float32", 16, 16, "xla"),
        ("tpu", "bfloat16", 64, 64, "xla"),
        ("gpu", "float32", 4, 4, "pallas"),
        ("gpu", "bfloat16", 128, 128, "pallas"),
        ("gpu", "bfloat16", 8, 200, "xla"),
        ("gpu", "float16", 16, 16, "xla"),
    ],
)
def test_choice_by_device_dtype_and_width(monkeypatch, platform, dtype, width, channels, implementation):
    monkeypatch.setattr(dispatch, "platform", lambda: platform)
    monkeypatch.setattr(dispatch, "triton_available", lambda: False)
    assert dispatch.resolve(None, operands(dtype, width, channels=channels), None) == implementation


@pytest.mark.parametrize(("dtype", "width", "implementation"), [
    ("bfloat16", 32, "triton"), ("bfloat16", 128, "pallas"), ("float32", 32, "pallas"),
])  # fmt: skip
def test_triton_is_chosen_where_it_is_installed_and_faster(monkeypatch, dtype, width, implementation):
    monkeypatch.setattr(dispatch, "platform", lambda: "gpu")
    monkeypatch.setattr(dispatch, "triton_available", lambda: True)
    assert dispatch.resolve(None, operands(dtype, width, channels=width), None) == implementation


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("width", [1, 4, 8, 16, 24, 32, 64, 96, 128])
def test_every_width_has_launches_that_fit(dtype, width):
    blocks = dispatch.kernel_blocks(operands(dtype, width))
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
        tiling = Tiling.create(dispatch.Blocks(rows=32, slices=4, warps=4, programs=programs), shape, shape[-1])
        split = tiling.tiles_per_split * tiling.rows
        assert tiling.splits * split >= shape[1] > (tiling.splits - 1) * split
        assert tiling.splits <= max(1, programs // (shape[0] * shape[2] * tiling.chunks))
        assert tiling.splits == 1 or np.prod(tiling.partial_shape.shape) <= LARGEST_PARTIAL_ELEMENTS


def test_state_layouts_are_inverse_to_each_other():
    tiling = Tiling.create(dispatch.Blocks(rows=16, slices=4, warps=4), (2, 20, 3, 6), 5)
    state = jnp.arange(2 * 3 * 6 * 5 * 6, dtype=jnp.float32).reshape(2, 3, 6, 5, 6)
    wide = tiling.rows_of_width(state, state.dtype)
    assert wide.shape == (2, 3, 16, 8 * 16)
    by_slice = wide.reshape(2, 3, 16, 8, 16).transpose(0, 1, 3, 2, 4).reshape(2, 3, 1, 8 * 16, 16)
    np.testing.assert_array_equal(tiling.merge(by_slice), state)
    tall = tiling.rows_of_channels(state, state.dtype).reshape(2, 3, 16, 8, 16)
    np.testing.assert_array_equal(tall.transpose(0, 1, 4, 2, 3)[:, :, :6, :5, :6], state)


def test_implementations_are_static_arguments():
    blocks = dispatch.kernel_blocks(operands())
    for contractions in (PallasContractions(blocks), TritonContractions(blocks)):
        assert isinstance(contractions, Contractions)
        assert hash(contractions) == hash(type(contractions)(blocks))

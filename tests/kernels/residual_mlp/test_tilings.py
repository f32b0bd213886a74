"""Every way of cutting the work into programs gives the same outputs and gradients."""

import jax.numpy as jnp
import numpy as np
import pytest

from kernels._target import Target
from kernels.residual_mlp import backward, table
from kernels.residual_mlp.plan import Tiling, plan_launch
from kernels.residual_mlp.sums import sum_over_programs
from kernels.residual_mlp.tiles import column_chunks, padded
from tests.kernels.residual_mlp.cases import BLOCK, Case, assert_agrees

SMALL = {"rows": 16, "warps": 4}
LOOPING = Tiling(**SMALL, programs=2)
TILINGS = {
    "accumulated": (LOOPING, LOOPING),
    "resident-carried": (Tiling(**SMALL, programs=3, resident=True), Tiling(**SMALL, programs=2, carried=True)),
    # Sums over rows are carried as those of every eighth row.
    "carried-32": (Tiling(**SMALL), Tiling(rows=32, warps=4, programs=1, carried=True)),
    "factored": (Tiling(**SMALL, precast=True), Tiling(**SMALL, programs=4, factored=True, precast=True)),
    "products": (Tiling(**SMALL), Tiling(**SMALL, factored=True, parts=2)),
    "serial": (Tiling(**SMALL, parallel=False), Tiling(**SMALL, parallel=False, programs=2, resident=True)),
    "transposed": (
        Tiling(**SMALL, transposed=True, columns=16),
        Tiling(**SMALL, transposed=True, columns=16, programs=2, carried=True),
    ),
    "transposed-factored": (
        Tiling(**SMALL, transposed=True),
        Tiling(**SMALL, transposed=True, factored=True, carried=True, programs=2),
    ),
}


def launch_with(monkeypatch, *tilings, **options):
    """Launch the kernels of every call with these tilings."""
    monkeypatch.setattr(table, "OPERATION", table.OPERATION.with_launch(table.Blocks(*tilings, **options)))


@pytest.mark.parametrize("tilings", TILINGS.values(), ids=TILINGS)
@pytest.mark.parametrize("case", [BLOCK, Case(branches=2, norm="layer", widths=(24, 20, 8))], ids=["block", "branches"])
def test_tilings_agree(case, tilings, monkeypatch):
    launch_with(monkeypatch, *tilings)
    assert_agrees(case)


@pytest.mark.parametrize("case", [BLOCK, Case(branches=2, norm="rms", dtype="bfloat16")], ids=["block", "branches"])
def test_factors_of_one_part_of_the_rows_at_a_time(case, monkeypatch):
    tiling = Tiling(**SMALL, factored=True, programs=4)
    # Room for one tile: 37 rows take three launches.
    monkeypatch.setattr(backward, "_FACTOR_BYTES", 1)
    launch_with(monkeypatch, tiling, tiling)
    assert_agrees(case, ratio=1e-2 if case.dtype == "bfloat16" else 1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_branches_in_launches_of_their_own(dtype, monkeypatch):
    tiling = Tiling(**SMALL)
    launch_with(monkeypatch, tiling, tiling, separate=True)
    assert_agrees(Case(branches=2, norm="layer", dtype=dtype), ratio=1e-2 if dtype == "bfloat16" else 1e-5)


@pytest.mark.parametrize("count", [1, 15, 16, 17, 1000, 40_001])
def test_launches_cover_all_rows_within_their_limit(count):
    tiling = Tiling(rows=16, warps=4, programs=10)
    for branches in (1, 2):
        launch = plan_launch(tiling, count, branches)
        assert launch.covered >= count
        assert launch.programs * launch.groups <= 10
        assert (launch.programs - 1) * launch.tiles * 16 < count
    chunked = plan_launch(tiling, count, 1, largest_chunk=320)
    assert chunked.chunks * chunked.covered >= count
    assert (chunked.chunks - 1) * chunked.covered < count
    assert chunked.masked == (chunked.chunks * chunked.covered != count)


@pytest.mark.parametrize("count", [1, 1000, 40_001, 1_000_000])
@pytest.mark.parametrize("programs", [128, 132, 4096])
@pytest.mark.parametrize("rows", [16, 32])
def test_rows_of_factors_need_no_padding(count, programs, rows):
    tiling = Tiling(rows=rows, warps=4, programs=programs, factored=True)
    for branches in (1, 2):
        launch = plan_launch(tiling, count, branches, largest_chunk=200_000)
        assert launch.covered % 1024 == 0
        assert launch.covered < 250_000
        assert launch.programs * launch.groups <= programs
        assert launch.chunks * launch.covered >= count
        assert (launch.chunks - 1) * launch.covered < count


@pytest.mark.parametrize(
    ("width", "sizes"),
    [
        (1, [16]),
        (16, [16]),
        (24, [32]),
        (64, [64]),
        (80, [128]),
        (130, [128, 16]),
        (200, [128, 128]),
        (256, [128, 128]),
    ],
)
def test_column_chunks(width, sizes):
    chunks = column_chunks(width, 128)
    assert [chunk.size for chunk in chunks] == sizes
    assert sum(chunk.valid for chunk in chunks) == width
    assert [chunk.start for chunk in chunks] == [sum(sizes[:i]) for i in range(len(sizes))]
    assert padded(width, 128) == sum(sizes)


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize(
    "case",
    [
        BLOCK,
        Case(branches=2, norm="layer", heads=3),
        Case(branches=2, norm="rms", dtype="bfloat16"),
    ],
    ids=["block", "branches", "bfloat16"],
)
def test_launches_of_a_few_layers_agree(case, depth, monkeypatch):
    tiling = Tiling(**SMALL, depth=depth)
    passes = tiling, Tiling(**SMALL, depth=depth, programs=2, carried=True)
    launch_with(monkeypatch, *passes, states=Tiling(rows=32, warps=4))
    assert_agrees(case, ratio=1e-2 if case.dtype == "bfloat16" else 1e-5)


@pytest.mark.parametrize("shape", [(1, 3), (2, 5, 7), (61, 2, 64), (128, 130), (129, 3)])
def test_sums_over_programs(shape):
    slots = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    sums = sum_over_programs(jnp.asarray(slots), Target("cpu"))
    np.testing.assert_allclose(sums, slots.sum(0, dtype=np.float64), rtol=1e-5, atol=1e-5)

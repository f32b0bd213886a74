"""Samples of the final state and of the series of a part, and the files that hold them."""

import numpy as np
import pytest

from data_pipeline.additive import case, graph, samples, series
from data_pipeline.errors import DataError
from tests.data_pipeline.additive.meshes import block


@pytest.fixture
def arrays():
    """A column of three elements, printed in three steps, with fields that name their node and step."""
    pos, elements = block(1, 1, 3)
    zmax = np.array([1.0, 2.0, 3.0])
    active = series.active_nodes(pos[:, 2], zmax)
    value = (10.0 * np.arange(1, 4)[:, None] + pos[:, 2]) * active
    return {
        "pos": pos,
        "elems": elements,
        "edge_index": graph.edges(elements),
        "zmax": zmax,
        "times": 60.0 * np.arange(1, 4),
        "disp": value[..., None] * np.array([0.0, 0.0, 1.0]),
        "vmstr": 1000 * value[..., None],
        "temp": 500 * value[..., None],
    }


def test_targets_are_increments_and_nodes_are_masked_until_they_are_there(arrays):
    found = series.series_samples(arrays, ("disp_z", "temp"))
    assert len(found) == 2
    heights = arrays["pos"][:, 2]
    np.testing.assert_array_equal(found[0].mask, heights <= 2)
    np.testing.assert_allclose(found[0].y[:, 0], np.where(heights <= 1, 10.0, np.where(heights <= 2, 20 + heights, 0)))
    np.testing.assert_allclose(found[1].x[:, :3], arrays["pos"] / [30, 30, 60])
    assert [sample.t for sample in found] == pytest.approx([0.0, 3 / 60 / 2])


def test_new_nodes_take_the_fields_of_the_layer_below(arrays):
    filled = series.series_samples(arrays, ("disp_z",), fill=True)[0]
    top = arrays["pos"][:, 2] == 2
    np.testing.assert_allclose(filled.x[top, 3], 11.0)
    np.testing.assert_allclose(filled.y[top, 0], 22.0 - 11.0)
    new = series.new_nodes(arrays["pos"][:, 2], arrays["zmax"])
    np.testing.assert_array_equal(new.sum(axis=1), [8, 4, 4])


def test_one_step_has_no_sample(arrays):
    single = {**arrays, "zmax": arrays["zmax"][:1]}
    with pytest.raises(DataError, match="a series of 1 step has no increment"):
        series.series_samples(single)


def test_unknown_fields_are_refused(arrays):
    with pytest.raises(DataError, match="name some of disp_z, vm, temp"):
        series.series_samples(arrays, ("disp_x",))


def test_cases_come_back_from_their_files(arrays, tmp_path):
    written = case.SeriesCase("part", **arrays)
    case.write_case(tmp_path / "part.npz", written)
    read = case.read_series(tmp_path / "part.npz")
    for name, array in written.arrays().items():
        np.testing.assert_allclose(getattr(read, name), array, rtol=1e-6)
    assert read.elems.dtype.kind == read.edge_index.dtype.kind == "i"


def test_final_cases_are_checked(arrays, tmp_path):
    final = {name: arrays[name] for name in ("pos", "elems", "edge_index")}
    final |= {name: arrays[name][-1] for name in ("disp", "vmstr", "temp")}
    case.write_case(tmp_path / "good.npz", case.FinalCase("good", **final))
    read = case.read_final(tmp_path / "good.npz")
    assert samples.final_sample(read.arrays(), read.edge_index, ("vm",)).y.shape == (16, 1)
    case.write_case(tmp_path / "bad.npz", case.FinalCase("bad", **{**final, "elems": final["elems"] + 1}))
    with pytest.raises(DataError, match=r"bad.npz\[elems\] names nodes 1 to 16 of 16; number the nodes from 0"):
        case.read_final(tmp_path / "bad.npz")
    np.savez(tmp_path / "short.npz", **{**final, "temp": final["temp"][1:]})
    with pytest.raises(DataError, match="arrays of different lengths"):
        case.read_final(tmp_path / "short.npz")

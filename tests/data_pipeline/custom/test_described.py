"""Samples in arrays of other programs by a description, and the steps that an XDMF file holds."""

import json

import h5py
import numpy as np
import pytest
import scipy.io

from data_pipeline.custom.folder import find_samples
from data_pipeline.custom.readers import read_contents
from data_pipeline.errors import DataError
from tests.data_pipeline.custom.test_loader import load

RNG = np.random.default_rng(0)
POINTS, FIELD, SPEED = RNG.random((6, 9, 2)), RNG.random((9, 6)), RNG.random(6)
CELLS = np.array([[0, 1, 2], [1, 2, 3]])
ARRAYS = {
    "points": {"file": "x.npy"},
    "pressure": {"file": "fields.mat", "name": "p", "axis": -1},
    "speed": {"file": "more.h5", "name": "v"},
}


@pytest.fixture
def folder(tmp_path):
    np.save(tmp_path / "x.npy", POINTS)
    scipy.io.savemat(tmp_path / "fields.mat", {"p": FIELD})
    with h5py.File(tmp_path / "more.h5", "w") as file:
        file["v"] = SPEED
    np.savez(tmp_path / "mesh.npz", cells=CELLS)
    describe(tmp_path, {"arrays": ARRAYS, "same": {"cells": {"file": "mesh.npz"}}})
    return tmp_path


def describe(folder, content):
    (folder / "flows.samples.json").write_text(json.dumps(content))


@pytest.mark.parametrize("whole", [True, False])
def test_arrays_of_many_samples(tmp_path, folder, whole):
    """The files of the arrays, some of which could be samples themselves, are none."""
    place = folder / "flows.samples.json" if whole else folder
    (found,) = find_samples(place).values()
    assert [one.name for one in found] == [f"flows_{number:04d}" for number in range(6)]
    contents = read_contents(found[4])
    for name, expected in (("points", POINTS[4]), ("pressure", FIELD[:, 4]), ("speed", SPEED[4]), ("cells", CELLS)):
        np.testing.assert_array_equal(contents.arrays[name], expected)
    made = load(tmp_path, place, inputs="speed", targets="pressure", n_test=2)
    assert made.train.x.shape == (4, 9, 3)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"arrays": {}}, "is no description of arrays; write"),
        ({"arrays": {"points": {"file": "../x.npy"}}}, "names the file '../x.npy'; put the files of arrays beside it"),
        ({"arrays": {"points": {"file": "x.npy", "axis": 3}}}, r"along axis 3 of \(6, 9, 2\); correct it"),
        ({"arrays": {**ARRAYS, "points": {"file": "x.npy", "axis": 1}}}, "different numbers of samples, points 9"),
        ({"arrays": {"points": {"file": "x.csv"}}}, "names 'x.csv', which is of no known format"),
        ({"arrays": {"points": {"file": "more.h5", "name": "w"}}}, r"has the arrays \['v'\] but lacks 'w'"),
        ({"arrays": {"points": {"file": "fields.mat", "name": "q"}}}, "lacks 'q'|'q'"),
    ],
)
def test_bad_descriptions(folder, change, problem):
    describe(folder, change)
    with pytest.raises(DataError, match=problem):
        read_contents(find_samples(folder / "flows.samples.json")[""][0])


def test_steps_of_an_xdmf_file(tmp_path):
    meshio = pytest.importorskip("meshio")
    pytest.importorskip("pyvista")
    points = np.pad(POINTS[0], [(0, 0), (0, 1)])
    with meshio.xdmf.TimeSeriesWriter(tmp_path / "flow.xdmf", data_format="XML") as writer:
        writer.write_points_cells(points, [("triangle", CELLS)])
        for number in range(3):
            writer.write_data(0.5 * number, point_data={"pressure": FIELD[:, number]})
    for place in (tmp_path / "flow.xdmf", tmp_path):
        (found,) = find_samples(place, in_time=True).values()
        assert [(one.series, one.time, one.number) for one in found] == [("flow", 0.5 * n, n) for n in range(3)]
    contents = read_contents(found[2])
    np.testing.assert_allclose(contents.arrays["pressure"], FIELD[:, 2])
    assert float(contents.arrays["time"]) == 1.0
    (tmp_path / "flow.xdmf").write_text('<Xdmf><Domain><Grid CollectionType="Temporal"/></Domain></Xdmf>')
    (broken,) = find_samples(tmp_path)[""]
    with pytest.raises(DataError, match=r"flow.xdmf cannot be read as a series"):
        read_contents(broken)

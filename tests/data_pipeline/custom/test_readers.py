"""Samples in every format are read alike, and what is wrong with a file is said in one sentence."""

import h5py
import numpy as np
import pytest

from data_pipeline.custom.readers import Reference, list_arrays, list_groups, natural_key, read_contents, read_sample
from data_pipeline.custom.sample import Field, make_sample, parse_fields
from data_pipeline.custom.writers import write_contents, write_fields
from data_pipeline.errors import DataError
from tests.data_pipeline.custom.files import CELLS, sample, write_h5

FIELDS = parse_fields("points", "speed", "pressure,velocity")


def _write(path, arrays):
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array
    return Reference(path)


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".hdf5"])
def test_arrays_of_a_sample(tmp_path, suffix):
    arrays = sample(3)
    read = read_sample(_write(tmp_path / f"case{suffix}", arrays), FIELDS)
    assert (read.name, len(read)) == ("case", 6)
    np.testing.assert_array_equal(read.points, arrays["points"])
    np.testing.assert_array_equal(read.inputs["speed"], np.full((6, 1), 3, np.float32))
    np.testing.assert_array_equal(read.targets["pressure"][:, 0], arrays["pressure"])
    np.testing.assert_array_equal(read.features(), np.concatenate([read.points, read.inputs["speed"]], axis=-1))
    assert read.fields().shape == (6, 3)
    assert read.fields().dtype == np.float64
    ((kind, cells),) = read.cells
    assert kind == "triangle"
    np.testing.assert_array_equal(cells, CELLS)


def test_groups_of_a_file(tmp_path):
    write_h5(tmp_path / "all.h5", {"train/b": 5, "train/a": 4, "test/c": 6})
    assert list_groups(tmp_path / "all.h5") == {"test": ["test/c"], "train": ["train/a", "train/b"]}
    assert len(read_sample(Reference(tmp_path / "all.h5", "train/b"), FIELDS)) == 5
    write_h5(tmp_path / "flat.h5", {"a": 5, "b": 4})
    assert list_groups(tmp_path / "flat.h5") == {"": ["a", "b"]}
    _write(tmp_path / "one.h5", sample(0))
    assert list_groups(tmp_path / "one.h5") == {"": [""]}


def test_arrays_beside_the_samples_of_a_split_are_none(tmp_path):
    write_h5(tmp_path / "all.h5", {"train/s0": 5, "test/s1": 4})
    with h5py.File(tmp_path / "all.h5", "a") as file:
        file["train/note"] = "mesh of March"
    assert list_groups(tmp_path / "all.h5") == {"test": ["test/s1"], "train": ["train/s0"]}


@pytest.mark.parametrize(("dimensions", "corners", "kind"), [(2, 4, "quad"), (3, 4, "tetra"), (3, 8, "hexahedron")])
def test_cells_are_named_by_their_corners(tmp_path, dimensions, corners, kind):
    arrays = {**sample(0, 9, dimensions), "cells": np.arange(corners)[None]}
    assert read_sample(_write(tmp_path / "a.npz", arrays), FIELDS).cells[0][0] == kind
    arrays["cells_quad"] = arrays.pop("cells")[:, :4]
    assert read_sample(_write(tmp_path / "a.npz", arrays), FIELDS).cells[0][0] == "quad"


def test_columns_of_arrays():
    fields = parse_fields("xyz", "", "surface_fields:0, velocity:1-2,p")
    assert fields.points == "xyz"
    assert [one.label for one in fields.targets] == ["surface_fields_0", "velocity_1-2", "p"]
    assert fields.targets[1] == Field("velocity", 1, 2)
    assert fields.inputs == (Field("inputs"),)
    assert not fields.inputs_named


def test_chosen_columns_are_read(tmp_path):
    reference = _write(tmp_path / "a.npz", sample(1))
    read = read_sample(reference, parse_fields("points", "", "velocity:1"))
    np.testing.assert_array_equal(read.targets["velocity_1"], sample(1)["velocity"][:, 1:])
    with pytest.raises(DataError, match=r"a.npz\[velocity\] has 2 columns, but data.targets asks for column 2"):
        read_sample(reference, parse_fields("points", "", "velocity:2"))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (("points", "", "p:x"), r"data.targets='p:x' is not understood at 'p:x'"),
        (("points", "", "p:3-1"), "is not understood"),
        (("points", "a,b,a", ""), "data.inputs='a,b,a' names 'a' twice"),
        (("", "", ""), "data.points='' names no array"),
        (("points", "a,p", "p"), "data.inputs='a,p' and data.targets='p' both name 'p', .* given its answer"),
        (("points", "u:1-2", "u:0-1"), "both name 'u_1-2'"),
    ],
)
def test_options_that_are_not_understood(texts, message):
    with pytest.raises(DataError, match=message):
        parse_fields(*texts)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"points": None},
            r"has the arrays \['cells', 'pressure', 'speed', 'velocity'\] but lacks 'points'; .*data.po",
        ),
        ({"pressure": None}, "but lacks 'pressure'; name the right one with data.targets"),
        ({"speed": None}, "but lacks 'speed'; name the right one with data.inputs"),
        ({"points": np.ones((6, 4))}, r"\[points\] has shape \(6, 4\) where \[N, 1 to 3\] is expected"),
        ({"points": np.ones(6)}, r"\[points\] has shape \(6,\)"),
        ({"pressure": np.ones(7)}, r"\[pressure\] has shape \(7, 1\) where \(6, any\) is expected"),
        ({"pressure": np.array([1, 2, np.nan, 4, 5, 6])}, r"\[pressure\] holds 1 NaN or infinite .* \(2, 0\)"),
        ({"pressure": np.array(list("abcdef"))}, "which is not numeric"),
        ({"cells": np.array([[0, 1, 6]])}, r"\[cells\] names points 0 to 6, but there are 6, numbered from 0"),
        ({"cells": np.arange(5)[None]}, "has 5 points per cell, which fits no cell type"),
    ],
)
def test_bad_arrays(tmp_path, changes, message):
    arrays = {name: array for name, array in {**sample(0), **changes}.items() if array is not None}
    with pytest.raises(DataError, match=message) as raised:
        read_sample(_write(tmp_path / "a.npz", arrays), FIELDS)
    assert str(tmp_path / "a.npz") in str(raised.value)


@pytest.mark.parametrize(("name", "kind"), [("a.npz", "an npz archive"), ("a.h5", "an HDF5 file")])
def test_files_that_cannot_be_read(tmp_path, name, kind):
    with pytest.raises(DataError, match=f"{name} does not exist"):
        read_sample(Reference(tmp_path / name), FIELDS)
    (tmp_path / name).write_bytes(b"broken")
    with pytest.raises(DataError, match=f"{name} cannot be read as {kind}"):
        read_sample(Reference(tmp_path / name), FIELDS)
    with pytest.raises(DataError, match="of no known format"):
        read_sample(Reference(tmp_path / "a.txt"), FIELDS)


@pytest.mark.parametrize("name", ["points", "speed", "pressure", "cells"])
@pytest.mark.parametrize(
    ("content", "message"), [("text", "which is not numeric; store numbers"), (h5py.Empty("f4"), "is empty; store")]
)
def test_hdf5_datasets_without_numbers(tmp_path, name, content, message):
    reference = _write(tmp_path / "a.h5", {**sample(0), name: content})
    with pytest.raises(DataError, match=rf"a.h5\[{name}\] .*{message}"):
        read_sample(reference, FIELDS)


def test_single_arrays_are_no_archives(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((6, 2)))
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    with pytest.raises(DataError, match=r"a.npz holds one array without a name, .*; write it with np.savez"):
        read_sample(Reference(tmp_path / "a.npz"), FIELDS)


def test_targets_may_be_missing_or_unknown_where_none_are_wanted(tmp_path):
    arrays = sample(0)
    del arrays["pressure"]
    arrays["velocity"][2, 1] = np.nan
    contents = read_contents(_write(tmp_path / "a.npz", arrays))
    read = make_sample("a", contents, FIELDS, "a.npz", targets_wanted=False)
    assert set(read.targets) == {"velocity"}
    np.testing.assert_array_equal(read.targets["velocity"], arrays["velocity"])
    assert set(read.inputs) == {"speed"}


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_everything_in_a_file_is_read_and_written_again(tmp_path, suffix):
    text = {"note": np.array("a mesh of März"), "names": np.array(["a", "bc"])}
    arrays = {**sample(0), "stress": np.arange(36.0).reshape(6, 2, 3), "index": np.array([[7, 8]]), **text}
    if suffix == ".h5":
        text = {name: array.astype(object) for name, array in text.items()}
    reference = _write(tmp_path / f"a{suffix}", {**arrays, **text})
    contents = read_contents(reference)
    for target in (tmp_path / "b.npz", tmp_path / "b.h5", tmp_path / "b.vtu"):
        if target.suffix == ".vtu":
            pytest.importorskip("pyvista")
        write_contents(target, contents, "points", (("triangle", CELLS),), {"pressure_predicted": np.ones(6)})
        back = read_contents(Reference(target)).arrays
        assert set(back) - {"pressure_predicted"} == set(arrays) - ({"cells"} if target.suffix == ".vtu" else set())
        np.testing.assert_array_equal(back["points"][:, :2], arrays["points"])
        assert back["points"].dtype == np.float64
        np.testing.assert_array_equal(back["stress"].reshape(6, -1), arrays["stress"].reshape(6, -1))
        np.testing.assert_array_equal(np.ravel(back["names"]), ["a", "bc"])
        np.testing.assert_array_equal(back["pressure_predicted"], np.ones(6))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([f"a{suffix}", "b.npz", "b.h5", "b.vtu"])


def test_objects_are_not_read(tmp_path):
    np.savez(tmp_path / "a.npz", **sample(0), anything=np.array([{}], dtype=object))
    contents = read_contents(Reference(tmp_path / "a.npz"))
    assert contents.unreadable == ("anything",)
    assert set(contents.arrays) == set(sample(0))
    assert len(read_sample(Reference(tmp_path / "a.npz"), FIELDS)) == 6
    with pytest.raises(DataError, match=r"a.npz\[anything\] has dtype object, which is not numeric"):
        read_sample(Reference(tmp_path / "a.npz"), parse_fields("points", "anything", "pressure"))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("S:Mises", [("S:Mises", None)]),
        ("U:1", [("U:1", None)]),
        ("V:1, S:Mises:0", [("V", 1), ("S:Mises", 0)]),
        ("a,b,V", [("a,b", None), ("V", None)]),
        ("V,a,b:2,U", [("V", None), ("a,b", 2), ("U", None)]),
        ("heat", [("heat", None)]),
    ],
)
def test_names_that_are_there_come_first(text, names):
    present = ["S:Mises", "U:1", "U", "V", "a,b", "a"]
    fields = parse_fields("points", "", text, present)
    assert [(one.name, one.first) for one in fields.targets] == names
    with pytest.raises(DataError, match=r"is not understood at 'S:Misses'; .*; the arrays are S:Mises, U, U:1"):
        parse_fields("points", "", "S:Misses", present)


def test_odd_names_are_read(tmp_path):
    arrays = sample(0)
    odd = {**arrays, "S:Mises": arrays["pressure"] + 1, "U:1": arrays["pressure"] + 2, "cells_per_layer": np.ones(6)}
    reference = _write(tmp_path / "a.npz", odd)
    fields = parse_fields("points", "cells_per_layer", "S:Mises,U:1,velocity:1", list_arrays(reference))
    read = read_sample(reference, fields)
    assert list(read.targets) == ["S:Mises", "U:1", "velocity_1"]
    np.testing.assert_array_equal(read.targets["U:1"][:, 0], odd["U:1"])
    assert [kind for kind, _ in read.cells] == ["triangle"]


def test_natural_order():
    names = ["run_10", "run_2", "run_1", "a", "2", "10"]
    assert sorted(names, key=natural_key) == ["2", "10", "a", "run_1", "run_2", "run_10"]


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_what_is_written_is_read_again(tmp_path, suffix):
    arrays = sample(4)
    fields = {name: arrays[name] for name in ("pressure", "velocity", "speed")}
    write_fields(tmp_path / f"a{suffix}", arrays["points"], (("triangle", CELLS),), fields)
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"]
    read = read_sample(Reference(tmp_path / f"a{suffix}"), FIELDS)
    np.testing.assert_array_equal(read.targets["velocity"], arrays["velocity"])
    assert read.cells[0][0] == "triangle"
    with pytest.raises(DataError, match=r"a.txt is of no known format"):
        write_fields(tmp_path / "a.txt", arrays["points"], (), fields)

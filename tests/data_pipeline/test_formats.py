"""The file formats of the public sets, apart from any data set."""

import sys

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse

from data_pipeline import clouds
from data_pipeline.errors import DataError
from data_pipeline.files import read_npy
from data_pipeline.matlab import mat_shape, read_mat
from data_pipeline.tfrecord import masked_crc, parse_example, read_examples
from data_pipeline.vtk import read_quad_surface
from tests.data_pipeline.fake_files import example_bytes, vtk_surface, write_mat, write_tfrecord


@pytest.mark.parametrize("hdf5", [False, True])
def test_both_versions_of_matlab_files_give_the_same_arrays(tmp_path, hdf5):
    array = np.arange(24.0).reshape(2, 3, 4)
    path = tmp_path / "a.mat"
    write_mat(path, {"u": array, "v": np.ones((1, 2))}, hdf5=hdf5)
    assert mat_shape(path, "u") == (2, 3, 4)
    whole = read_mat(path, "u", (2, None, 4))
    assert whole.dtype == np.float64
    np.testing.assert_array_equal(whole, array)
    part = read_mat(path, "u", (2, 3, 4), (slice(1, 2), slice(None, None, 2), slice(3)))
    np.testing.assert_array_equal(part, array[1:2, ::2, :3])
    for attempt in (lambda: read_mat(path, "w", (2,)), lambda: mat_shape(path, "w")):
        with pytest.raises(DataError, match=r"has the arrays \['u', 'v'\] but lacks 'w'"):
            attempt()
    with pytest.raises(DataError, match=r"has shape"):
        read_mat(path, "u", (2, 3, 5))
    write_mat(path, {"u": np.full((2, 2), np.nan)}, hdf5=hdf5)
    with pytest.raises(DataError, match=r"4 NaN or infinite values"):
        read_mat(path, "u", (2, 2))


def write_empty_and_sparse(path, sparse, hdf5):
    """Write `e`, an empty array of shape [0, 5], and `s`, a sparse matrix, as MATLAB does."""
    if not hdf5:
        scipy.io.savemat(path, {"e": np.zeros((0, 5)), "s": sparse})
        return
    with h5py.File(path, "w") as file:
        file["e"] = np.array([0, 5], np.uint64)
        file["e"].attrs["MATLAB_empty"] = np.uint8(1)
        group = file.create_group("s")
        group.attrs["MATLAB_sparse"] = np.uint64(sparse.shape[0])
        columns = (("data", sparse.data), ("ir", sparse.indices), ("jc", sparse.indptr))
        for key, value in columns:
            # MATLAB leaves out the values of a matrix without any.
            if len(value):
                group[key] = value if key == "data" else value.astype(np.uint64)


@pytest.mark.parametrize("hdf5", [False, True])
@pytest.mark.parametrize("entries", [4, 0])
def test_empty_and_sparse_matlab_arrays(tmp_path, hdf5, entries):
    full = np.zeros((3, 4))
    full.flat[[1, 2, 7, 11][:entries]] = [2.0, -1.0, 0.5, 3.0][:entries]
    path = tmp_path / "a.mat"
    write_empty_and_sparse(path, scipy.sparse.csc_array(full), hdf5)
    assert (mat_shape(path, "e"), mat_shape(path, "s")) == ((0, 5), (3, 4))
    assert read_mat(path, "e", (None, 5)).shape == (0, 5)
    np.testing.assert_array_equal(read_mat(path, "s", (3, 4)), full)
    np.testing.assert_array_equal(read_mat(path, "s", (3, None), (slice(1, 3), slice(None, None, 2))), full[1:3, ::2])
    with pytest.raises(DataError, match=r"\(0, 5\) where \(3, any\) is expected"):
        read_mat(path, "e", (3, None))
    with pytest.raises(DataError, match=r"\(3, 4\) where \(3, 5\) is expected"):
        read_mat(path, "s", (3, 5))


@pytest.mark.parametrize("content", [b"no matrix at all" * 20, b""])
def test_other_files_are_no_matlab_files(tmp_path, content):
    (tmp_path / "a.mat").write_bytes(content)
    for attempt in (lambda: read_mat(tmp_path / "a.mat", "u", (1,)), lambda: mat_shape(tmp_path / "a.mat", "u")):
        with pytest.raises(DataError, match=r"cannot be read as a MATLAB file"):
            attempt()


def test_a_part_of_a_large_npy_file(tmp_path):
    array = np.arange(24.0).reshape(6, 4)
    np.save(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(read_npy(tmp_path / "a.npy", (6, 4), (slice(2, 4), 1)), array[2:4, 1])
    with pytest.raises(DataError, match=r"\(6, 4\) where \(5, any\)"):
        read_npy(tmp_path / "a.npy", (5, None), (slice(2),))


def test_crc_of_the_standard():
    crc = 0xE3069283  # CRC-32C of the digits 1 to 9 (RFC 3720)
    assert masked_crc(b"123456789") == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def test_examples_are_read_back(tmp_path):
    records = [{"a": b"x" * 300, "field": bytes(range(256))}, {"a": b""}]
    write_tfrecord(tmp_path / "f", [example_bytes(record) for record in records])
    read = [{key: b"".join(values) for key, values in example.items()} for example in read_examples(tmp_path / "f")]
    assert read == records


def test_examples_of_protocol_buffers_own_encoder():
    """The same message through Google's library, with the types that are skipped in it."""
    pb = pytest.importorskip("google.protobuf.descriptor_pb2")
    from google.protobuf import descriptor_pool, message_factory

    kinds = pb.FieldDescriptorProto
    file = pb.FileDescriptorProto(name="example.proto", package="t", syntax="proto3")

    def message(name, *fields):
        built = file.message_type.add(name=name)
        for number, (field, kind, repeated, of) in enumerate(fields, 1):
            label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            built.field.add(name=field, number=number, type=kind, label=label, type_name=of or None)

    message("Bytes", ("value", kinds.TYPE_BYTES, True, ""))
    message("Floats", ("value", kinds.TYPE_FLOAT, True, ""))
    message("Ints", ("value", kinds.TYPE_INT64, True, ""))
    message(
        "Feature",
        ("bytes_list", kinds.TYPE_MESSAGE, False, ".t.Bytes"),
        ("float_list", kinds.TYPE_MESSAGE, False, ".t.Floats"),
        ("int64_list", kinds.TYPE_MESSAGE, False, ".t.Ints"),
    )
    message("Entry", ("key", kinds.TYPE_STRING, False, ""), ("value", kinds.TYPE_MESSAGE, False, ".t.Feature"))
    message("Features", ("feature", kinds.TYPE_MESSAGE, True, ".t.Entry"))
    message("Example", ("features", kinds.TYPE_MESSAGE, False, ".t.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    classes = {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"t.{name}")) for name in ("Example",)}
    example = classes["Example"]()
    for key, values in (("velocity", [b"abc", b"d" * 200]), ("cells", [b"\x00\x01"])):
        entry = example.features.feature.add(key=key)
        entry.value.bytes_list.value.extend(values)
    example.features.feature.add(key="number").value.float_list.value.extend([1.5])
    parsed = parse_example(memoryview(example.SerializeToString()))
    assert {key: [bytes(value) for value in values] for key, values in parsed.items()} == {
        "velocity": [b"abc", b"d" * 200],
        "cells": [b"\x00\x01"],
    }


@pytest.mark.parametrize("cut", [3, 14, -2])
def test_damaged_records_are_reported(tmp_path, cut):
    path = tmp_path / "f"
    write_tfrecord(path, [example_bytes({"a": b"x" * 50})])
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"record 0"):
        list(read_examples(path))


def test_other_files_are_no_records(tmp_path):
    (tmp_path / "f").write_bytes(b"an ordinary text, longer than a head")
    with pytest.raises(DataError, match=r"no TFRecord"):
        list(read_examples(tmp_path / "f"))
    write_tfrecord(tmp_path / "g", [b"\xff\xff\xff"])
    with pytest.raises(DataError, match=r"no tf.train.Example"):
        list(read_examples(tmp_path / "g"))


def test_surfaces_need_pyvista(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyvista", None)
    with pytest.raises(DataError, match=r"needs pyvista; run `pip install 'flare_jax\[viz\]'`"):
        read_quad_surface(tmp_path / "a.vtk")


def test_surface_of_quadrilaterals(tmp_path):
    pytest.importorskip("pyvista")
    points = np.random.default_rng(0).random((5, 3)).round(6)
    (tmp_path / "a.vtk").write_text(vtk_surface(points, np.array([[0, 1, 2, 3], [1, 2, 3, 4]])))
    read, quads = read_quad_surface(tmp_path / "a.vtk")
    np.testing.assert_allclose(read, points, atol=1e-6)
    np.testing.assert_array_equal(quads, [[0, 1, 2, 3], [1, 2, 3, 4]])
    (tmp_path / "b.vtk").write_text("# vtk DataFile Version 2.0\nnothing\n")
    with pytest.raises(DataError, match=r"cannot be read as a mesh"):
        read_quad_surface(tmp_path / "b.vtk")


def test_clouds_are_padded_at_the_end():
    padded, mask = clouds.pad_clouds([np.ones((2, 3)), 2 * np.ones((4, 3))])
    assert padded.shape == (2, 4, 3)
    np.testing.assert_array_equal(mask, [[True, True, False, False], [True] * 4])
    np.testing.assert_array_equal(padded[0, 2:], 0)
    same, none = clouds.pad_clouds([np.ones((2, 3)), np.ones((2, 3))])
    assert none is None
    assert same.dtype == np.float32
    assert clouds.pad_clouds([np.ones((2, 3))], 7)[1].sum() == 2


def _padding(counts, sizes):
    return sum(min(size for size in sizes if size >= count) for count in counts)


def test_buckets_have_the_least_padding():
    """Against all choices."""
    from itertools import combinations

    counts = np.random.default_rng(0).integers(1, 60, 40)
    candidates = sorted({-(-int(count) // 4) * 4 for count in counts})
    for number in (2, 3):
        sizes = clouds.choose_buckets(counts, number, multiple=4)
        assert len(sizes) <= number
        assert sizes[-1] == candidates[-1]
        best = min(_padding(counts, (*some, candidates[-1])) for some in combinations(candidates[:-1], number - 1))
        assert _padding(counts, sizes) == best
    assert clouds.choose_buckets(counts, 1) == (counts.max(),)
    assert clouds.choose_buckets(np.array([37, 37]), 4) == (37,)
    assert clouds.choose_buckets(np.array([10, 20, 30]), 9, multiple=10) == (10, 20, 30)

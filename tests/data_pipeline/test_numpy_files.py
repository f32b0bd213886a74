"""NumPy's and MATLAB's files that claim too much, bear another kind's name or are damaged: one sentence each."""

import io
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse

from data_pipeline.custom.readers import Reference, read_sample
from data_pipeline.custom.sample import parse_fields
from data_pipeline.errors import DataError
from data_pipeline.files import read_npy, read_npz
from data_pipeline.matlab import mat_shape, read_mat
from data_pipeline.numpy_files import load_npy, open_npz
from data_pipeline.sequence.boards import read_maze_arrays
from data_pipeline.sequence.image import read_npz as read_images


def npy(shape: object, values: bytes = bytes(24), dtype: str = "<f8") -> bytes:
    """Return a .npy file that claims `shape`."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": dtype, "fortran_order": False, "shape": shape})
    return buffer.getvalue() + values


CLAIMS = {
    "huge": (npy((10**12, 4)), "claims 32000000000000 bytes, but the file holds 24"),
    "huge in many axes": (npy((10**6,) * 6), "but the file holds 24"),
    "negative": (npy((-1, 3)), "claims shape"),
    "objects": (npy((3,), dtype="|O"), "dtype object, which is not numeric"),
    "texts": (npy((3,), dtype="<U2"), "dtype <U2"),
    "a structure": (npy((3,), dtype=[("a", "<f8")]), "which is not numeric"),
    "deep": (npy((3,)).replace(b"(3,)", b"(" * 40 + b")" * 40), "a.np"),
    "text": (b"x, y\n1, 2\n", "no array of numbers|no zip file"),
    "nothing": (b"", "no array of numbers|no zip file"),
    "no header": (npy((3,))[:20], "cannot be read"),
}


def write_npz(path: Path, content: bytes, name: str = "x") -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}.npy", content)


@pytest.mark.parametrize("claim", CLAIMS)
def test_claims_of_npy_files(tmp_path, claim):
    content, words = CLAIMS[claim]
    (tmp_path / "a.npy").write_bytes(content)
    for mapped in (False, True):
        with pytest.raises(DataError, match=words):
            load_npy(tmp_path / "a.npy", mapped)
    with pytest.raises(DataError, match=words):
        read_npy(tmp_path / "a.npy", (None,))
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        for kind in ("inputs", "labels"):
            (tmp_path / split / f"all__{kind}.npy").write_bytes(content)
    with pytest.raises(DataError, match=words.replace("a.np", "cannot be read")):
        read_maze_arrays(tmp_path, augment=False)


@pytest.mark.parametrize("claim", CLAIMS)
def test_claims_in_archives(tmp_path, claim):
    content, words = CLAIMS[claim]
    write_npz(tmp_path / "a.npz", content, "points")
    with pytest.raises(DataError, match=words):
        read_npz(tmp_path / "a.npz", {"points": (3,)})
    with pytest.raises(DataError, match=words):
        read_sample(Reference(tmp_path / "a.npz"), parse_fields("points", "", "field"))
    with zipfile.ZipFile(tmp_path / "cifar10.npz", "w") as archive:
        for name in ("x_train", "y_train", "x_test", "y_test"):
            archive.writestr(f"{name}.npy", content)
    with pytest.raises(DataError, match=words.replace("a.np", "cifar10.np")):
        read_images(tmp_path, validation=0.1)


def test_archives_and_arrays_under_each_others_names(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones(3))
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    with pytest.raises(DataError, match=r"a.npy is an npz archive of named arrays; unpack it"):
        read_npy(tmp_path / "a.npy", (3,))
    np.save(tmp_path / "b.npy", np.ones(3))
    (tmp_path / "b.npy").rename(tmp_path / "b.npz")
    with pytest.raises(DataError, match="holds one array without a name"), open_npz(tmp_path / "b.npz"):
        pass
    for read in (lambda path: load_npy(path), lambda path: read_npz(path, {"x": (3,)})):
        with pytest.raises(DataError, match="does not exist"):
            read(tmp_path / "none")


def test_the_size_of_a_member_is_a_claim_too(tmp_path):
    path = tmp_path / "a.npz"
    write_npz(path, npy((10**9,), bytes(8)))
    # The directory of the archive says that the member is as large as its header claims.
    lying = path.read_bytes().replace((8 + 128).to_bytes(4, "little"), (2**32 - 2).to_bytes(4, "little"))
    path.write_bytes(lying)
    with pytest.raises(DataError, match="claims 4294967294 bytes, but the file holds"):
        read_npz(path, {"x": (None,)})


def test_archives_of_zeros_are_no_claim(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros(10**6))
    assert read_npz(tmp_path / "a.npz", {"x": (10**6,)})["x"].shape == (10**6,)


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_flipped_bytes_are_sentences(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    np.save(path, np.arange(20.0)) if kind == "npy" else np.savez_compressed(path, x=np.arange(20.0))
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(250):
        damaged = whole.copy()
        places = rng.integers(len(whole), size=2)
        damaged[places] = rng.integers(256, size=2)
        path.write_bytes(damaged.tobytes())
        try:
            load_npy(path) if kind == "npy" else read_npz(path, {"x": (20,)})
            outcomes["read"] += 1
        except DataError:
            outcomes["refused"] += 1
    assert outcomes["refused"] > 50, outcomes


def write_hdf5_text(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["u"] = np.frombuffer("text".encode("utf-16-le"), np.uint16)[:, None]
        file["u"].attrs["MATLAB_class"] = np.bytes_("char")


MATLAB = {
    "a text file": (lambda path: path.write_text("text" * 100), "cannot be read as a MATLAB file"),
    "an empty file": (lambda path: path.write_text(""), "cannot be read as a MATLAB file"),
    "a text": (lambda path: scipy.io.savemat(path, {"u": "text"}), "has shape|not numeric"),
    "a structure": (lambda path: scipy.io.savemat(path, {"u": {"a": 1}}), "not numeric"),
    "a cell": (lambda path: scipy.io.savemat(path, {"u": np.array([[1, "a"]], object)}), "has shape|not numeric"),
    "a text of version 7.3": (write_hdf5_text, "is a text, stored as numbers"),
}


@pytest.mark.parametrize("content", MATLAB)
def test_matlab_files_without_numbers(tmp_path, content):
    write, words = MATLAB[content]
    write(tmp_path / "a.mat")
    with pytest.raises(DataError, match=words):
        read_mat(tmp_path / "a.mat", "u", (1, 1))


def test_rows_outside_of_a_sparse_array(tmp_path):
    """SciPy alone writes these anywhere in memory."""
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"u": scipy.sparse.csc_array(np.diag([1.0, 2.0, 3.0]))}, do_compression=False)
    rows = np.array([0, 1, 2], np.int32).tobytes()
    path.write_bytes(path.read_bytes().replace(rows, np.array([0, 1, 2**28], np.int32).tobytes(), 1))
    with pytest.raises(DataError, match="no proper sparse array"):
        read_mat(path, "u", (3, 3))
    with h5py.File(tmp_path / "b.mat", "w") as file:
        group = file.create_group("u")
        group.attrs["MATLAB_sparse"] = 3
        group["data"], group["ir"], group["jc"] = np.ones(3), np.array([0, 1, 2**28]), np.array([0, 1, 2, 3])
    with pytest.raises(DataError, match="no proper sparse array"):
        read_mat(tmp_path / "b.mat", "u", (3, 3))
    with h5py.File(tmp_path / "b.mat", "a") as file:
        file["u"].attrs["MATLAB_sparse"] = 2**50
    assert mat_shape(tmp_path / "b.mat", "u") == (2**50, 3)
    with pytest.raises(DataError, match="more than the memory of this machine"):
        read_mat(tmp_path / "b.mat", "u", (None, 3))


@pytest.mark.parametrize("options", [{"format": "4"}, {}, {"do_compression": True}])
def test_flipped_bytes_of_matlab_files(tmp_path, options):
    """SciPy alone ends the process for one in twenty of those of version 5."""
    path = tmp_path / "a.mat"
    content = {"u": np.arange(12.0).reshape(3, 4), "v": scipy.sparse.csc_array(np.eye(3)), "w": "text"}
    scipy.io.savemat(path, content, **options)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    outcomes = {"read": 0, "refused": 0}
    for number in range(250):
        damaged = whole.copy()
        places = rng.integers(len(whole), size=2)
        damaged[places] = rng.integers(256, size=2)
        path.write_bytes(damaged.tobytes())
        try:
            name, shape = (("u", (3, 4)), ("v", (3, 3)))[number % 2]
            mat_shape(path, name)
            read_mat(path, name, shape)
            outcomes["read"] += 1
        except DataError:
            outcomes["refused"] += 1
    assert outcomes["refused"] > 20, outcomes

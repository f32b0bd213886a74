"""Tokenised data on disk: damage of any kind costs the cache, not the run."""

import h5py
import numpy as np
import pytest

from data_pipeline.errors import DataError
from data_pipeline.sequence.cache import cached, read_arrays, write_arrays

ARRAYS = {
    "tokens": np.arange(4000, dtype=np.int32).reshape(100, 40),
    "lengths": np.arange(100),
    "none": np.zeros((0, 2)),
}


def _flip(name):
    def flip(path):
        with h5py.File(path, "r") as file:
            offset = file[name].id.get_chunk_info(0).byte_offset + 5
        content = bytearray(path.read_bytes())
        content[offset] ^= 1
        path.write_bytes(content)

    return flip


def _group(path):
    with h5py.File(path, "a") as file:
        del file["tokens"]
        file.create_group("tokens")


def _no_key(path):
    with h5py.File(path, "a") as file:
        del file.attrs["key"]


@pytest.mark.parametrize(
    "damage",
    [
        _flip("tokens"),
        _flip("lengths"),
        _group,
        _no_key,
        lambda path: path.write_bytes(path.read_bytes()[:-500]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(200)),
    ],
)
def test_damaged_caches_are_made_again(tmp_path, damage):
    path = tmp_path / "cache.h5"
    for _ in range(2):
        arrays = cached(path, "a", lambda: ARRAYS)
    damage(path)
    built = []
    arrays = cached(path, "a", lambda: built.append(1) or ARRAYS)
    assert built == [1]
    for name, array in cached(path, "a", pytest.fail).items():
        np.testing.assert_array_equal(array, arrays[name])


@pytest.mark.parametrize("damage", [_flip("tokens"), _flip("lengths"), _group])
def test_damaged_files_are_refused(tmp_path, damage):
    path = tmp_path / "data.h5"
    write_arrays(path, ARRAYS)
    damage(path)
    with pytest.raises(DataError, match="delete its folder and generate the data again"):
        read_arrays(path, ARRAYS)

"""The cache on disk: written once, gone on with after an interruption, damage noticed."""

import json

import h5py
import numpy as np
import pytest

from data_pipeline.errors import DataError
from data_pipeline.streaming import cache as cache_module
from data_pipeline.streaming.cache import INDEX_FILE, build_cache, open_cache, shard_path

COUNTS = (5, 9, 7, 3, 8)


def sample(number):
    rng = np.random.default_rng(number)
    return {"x": rng.random((COUNTS[number], 3)), "y": rng.random((COUNTS[number], 1))}


def read(cache, row, name):
    place = cache.entries[row][name]
    out = np.empty(place.shape, place.dtype)
    cache.read(row, name, out)
    return out


def build(folder, source=sample, **options):
    return build_cache(folder, len(COUNTS), source, shard_bytes=300, **options)


def test_what_was_written_is_read(tmp_path):
    advanced = []
    cache = build(tmp_path / "cache", advance=advanced.append)
    assert sum(advanced) == len(cache) == 5
    assert shard_path(tmp_path / "cache", 2).exists()
    for row in (4, 0, 2, 2):
        for name in "xy":
            np.testing.assert_array_equal(read(cache, row, name), sample(row)[name])
    assert [cache.count(row) for row in range(5)] == list(COUNTS)
    everything = np.concatenate([sample(row)["x"] for row in (1, 3)])
    moments = cache.moments(np.array([1, 3]), "x")
    np.testing.assert_allclose(moments.mean, everything.mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.std, everything.std(0, ddof=1), rtol=1e-12)
    np.testing.assert_array_equal(moments.high, everything.max(0))


def test_some_points_are_read_with_the_blocks_that_hold_them(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "BLOCK_POINTS", 4)
    cache, sizes, read_bytes = build(tmp_path), [], cache_module._read_bytes

    def counted(path, offset, view):
        sizes.append(len(view) // 24)
        read_bytes(path, offset, view)

    monkeypatch.setattr(cache_module, "_read_bytes", counted)
    # Sample 1 has 9 points, that is blocks of 4, 4 and 1. A block is verified once, with all of its points.
    for first, count, read_points in ((5, 2, 4), (5, 2, 2), (7, 2, 5), (7, 2, 2), (4, 4, 4), (0, 9, 9), (0, 9, 9)):
        out = np.empty((count, 3))
        cache.read(1, "x", out, first)
        np.testing.assert_array_equal(out, sample(1)["x"][first : first + count])
        assert sizes.pop() == read_points


def test_damage_of_one_block(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "BLOCK_POINTS", 4)
    cache = build(tmp_path)
    place = cache.entries[1]["x"]
    with shard_path(tmp_path, place.shard).open("r+b") as file:
        file.seek(place.offset + 5 * 24)
        file.write(b"damage")
    cache.read(1, "x", np.empty((4, 3)))
    for first in (4, 6):
        with pytest.raises(DataError, match="does not match its checksum"):
            cache.read(1, "x", np.empty((2, 3)), first)


def test_files_are_plain_hdf5(tmp_path):
    build(tmp_path)
    with h5py.File(shard_path(tmp_path, 0), "r") as file:
        np.testing.assert_array_equal(file["00000001/y"], sample(1)["y"])


def test_a_complete_cache_is_not_written_again(tmp_path):
    build(tmp_path)

    def refuse(number):
        raise AssertionError

    assert len(build(tmp_path, refuse)) == 5


def _no_hdf5(path):
    path.write_bytes(b"no HDF5")


def _wrong_notes(entries):
    def write(path):
        with h5py.File(path, "w") as file:
            file["entries"] = entries

    return write


@pytest.mark.parametrize(
    "leftover",
    [
        None,
        _no_hdf5,
        _wrong_notes("[]"),
        _wrong_notes(3),
        _wrong_notes('{"format": 3, "first": 0}'),
        _wrong_notes('{"format": 3, "first": 2, "samples": [3]}'),
    ],
)
def test_an_interrupted_build_goes_on(tmp_path, leftover):
    class Stop(Exception):
        pass

    asked = []

    def interrupted(number):
        if number == 3:
            raise Stop
        return sample(number)

    def recorded(number):
        asked.append(number)
        return sample(number)

    with pytest.raises(Stop):
        build(tmp_path, interrupted)
    assert open_cache(tmp_path) is None
    finished = len(list(tmp_path.glob("shard_*.h5")))
    assert finished >= 1
    if leftover:  # as after kill -9: half a file, and a file from elsewhere
        (tmp_path / f".{shard_path(tmp_path, finished).name}.tmp").write_bytes(b"half")
        leftover(shard_path(tmp_path, finished))
    cache = build(tmp_path, recorded)
    assert asked
    assert min(asked) > 0
    assert len(asked) < 5
    for row in range(5):
        np.testing.assert_array_equal(read(cache, row, "x"), sample(row)["x"])
    assert not list(tmp_path.glob(".*"))


def test_changed_bytes_are_noticed(tmp_path):
    cache = build(tmp_path)
    place = cache.entries[0]["x"]
    path = shard_path(tmp_path, place.shard)
    content = bytearray(path.read_bytes())
    content[place.offset + 7] ^= 1
    path.write_bytes(content)
    again = open_cache(tmp_path)
    read(again, 0, "y")
    with pytest.raises(
        DataError, match=r"damaged: x of sample 0 in shard_00000.h5 does not match its checksum; delete"
    ):
        read(again, 0, "x")


def _shorten(folder):
    path = shard_path(folder, 1)
    path.write_bytes(path.read_bytes()[:-1])


def _rewrite(change):
    """Return a function that changes the index and gives it the sum of its new content."""

    def rewrite(folder):
        content = json.loads((folder / INDEX_FILE).read_text())
        change(content)
        content["sum"] = cache_module._sum(content)
        (folder / INDEX_FILE).write_text(json.dumps(content))

    return rewrite


def _tamper(folder):
    text = (folder / INDEX_FILE).read_text()
    mean = json.loads(text)["samples"][0]["x"]["moments"]["mean"][0]
    (folder / INDEX_FILE).write_text(text.replace(str(mean), str(mean + 1)))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_tamper, "index.json does not match its checksum"),
        (lambda folder: (folder / INDEX_FILE).write_text("[]"), "index.json cannot be read .it holds a JSON list"),
        (lambda folder: (folder / INDEX_FILE).write_text("[" * 99999), "index.json cannot be read .*deeply"),
        (
            lambda folder: (folder / INDEX_FILE).write_text(json.dumps({"format": cache_module.FORMAT})),
            "index.json cannot be read",
        ),
        (_rewrite(lambda content: content.update(samples=[[1]])), "index.json cannot be read"),
        (_rewrite(lambda content: content["samples"].append({"x": 3})), "index.json cannot be read"),
        (_rewrite(lambda content: content.update(shard_bytes=3)), "index.json cannot be read"),
        (_rewrite(lambda content: content["samples"][0]["x"].update(shape=[3])), "index.json cannot be read"),
        (_rewrite(lambda content: content["samples"][0]["x"].update(moments=None)), "index.json cannot be read"),
        (lambda folder: shard_path(folder, 0).unlink(), "shard_00000.h5 is missing or has another size"),
        (_shorten, "shard_00001.h5 is missing or has another size"),
        (lambda folder: (folder / INDEX_FILE).write_text("{"), "index.json cannot be read"),
        (
            lambda folder: (folder / INDEX_FILE).write_text(json.dumps({"format": 0})),
            "it has format 0 and this version",
        ),
    ],
)
def test_damaged_caches(tmp_path, damage, message):
    build(tmp_path)
    damage(tmp_path)
    with pytest.raises(DataError, match=message):
        build(tmp_path)


def test_a_cut_file_is_noticed_when_read(tmp_path):
    cache = build(tmp_path)
    place = cache.entries[0]["x"]
    path = shard_path(tmp_path, place.shard)
    path.write_bytes(path.read_bytes()[: place.offset + 10])
    with pytest.raises(DataError, match=r"cannot be read .it ends after"):
        read(cache, 0, "x")


def test_folders_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        DataError, match=r"the cache .* cannot be written .* set data.cache to a folder on another disk"
    ):
        build(tmp_path / "file" / "cache")


def test_errors_of_samples_are_passed_on(tmp_path):
    def bad(number):
        raise DataError("sample is bad; repair it")

    with pytest.raises(DataError, match="sample is bad"):
        build(tmp_path, bad)

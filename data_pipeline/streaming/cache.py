"""A folder of HDF5 files with the arrays of a data set, written once, for reading any sample at disk speed.

The samples are written in order into files `shard_00000.h5`, `shard_00001.h5` … of about a quarter GiB each. A file
appears under its name only when it is whole, so that a build that was stopped goes on behind the last file. Arrays are
stored without compression in one piece, whose place is noted: they are read by the operating system straight into
their place in a batch, by several threads at once. CRC-32 sums of blocks of points are compared when a block is first
read, so that a process which needs some points of a sample reads little more than those.
"""

import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float

from data_pipeline import hdf5
from data_pipeline.errors import DataError
from data_pipeline.streaming.moments import Moments
from data_pipeline.streaming.prefetch import Prefetcher
from runtime.files import remove_leftovers, replacing, write_text
from runtime.json_files import decode_object, encode, read_object
from runtime.locks import locked

FORMAT = 4
INDEX_FILE = "index.json"
SHARD_BYTES = 2**28
# Points whose bytes have a checksum of their own.
BLOCK_POINTS = 2**16
# What damaged JSON and HDF5 files raise, by the place of the damage.
_DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, OverflowError)
_WORKERS = 4  # threads that read the original files

Arrays = Mapping[str, Float[np.ndarray, "N C"]]


@dataclass(frozen=True)
class Place:
    """Where an array is: shard number, first byte, shape [N, C], dtype, CRC-32 of its bytes, statistics of its values.

    `blocks` are the CRC-32 of every `BLOCK_POINTS` points; the last may have fewer. The dtype
    is that of the sample, float32 or float64: which digits are needed is known once the mean is.
    """

    shard: int
    offset: int
    shape: tuple[int, int]
    dtype: str
    crc32: int
    blocks: tuple[int, ...]
    moments: Moments

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "moments": self.moments.to_json()}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Place":
        points, channels = map(int, content["shape"])
        shard, offset, crc32 = (int(content[name]) for name in ("shard", "offset", "crc32"))
        dtype, blocks = np.dtype(content["dtype"]).name, tuple(map(int, content["blocks"]))
        if len(blocks) != -(-points // BLOCK_POINTS):
            raise ValueError(f"{points} points have {len(blocks)} checksums")
        return cls(shard, offset, (points, channels), dtype, crc32, blocks, Moments.from_json(content["moments"]))


Entry = dict[str, Place]


class Cache:
    """A complete cache: `read` fills an array with that of a sample."""

    def __init__(self, folder: Path, entries: list[Entry]) -> None:
        self.folder, self.entries = folder, entries
        self._verified: set[tuple[int, str, int]] = set()

    def __len__(self) -> int:
        return len(self.entries)

    def read(self, row: int, name: str, out: Float[np.ndarray, "N C"], first: int = 0) -> None:
        """Fill `out`, contiguous, with array `name` of sample `row` from point `first` on; raises DataError.

        `out` has the channels and the dtype of the array. Blocks that are read for the first time are read whole.
        """
        place, stop = self.entries[row][name], first + len(out)
        blocks = range(first // BLOCK_POINTS, -(-stop // BLOCK_POINTS))
        new = [block for block in blocks if (row, name, block) not in self._verified]
        if not new:
            self._fill(place, first, out)
            return
        begin, end = blocks.start * BLOCK_POINTS, min(blocks.stop * BLOCK_POINTS, place.shape[0])
        whole = out if (begin, end) == (first, stop) else np.empty((end - begin, *out.shape[1:]), out.dtype)
        self._fill(place, begin, whole)
        for block in new:
            start = block * BLOCK_POINTS - begin
            if zlib.crc32(whole[start : start + BLOCK_POINTS]) != place.blocks[block]:
                shard = shard_path(self.folder, place.shard).name
                raise _damaged(self.folder, f"{name} of sample {row} in {shard} does not match its checksum")
            self._verified.add((row, name, block))
        if whole is not out:
            out[:] = whole[first - begin : stop - begin]

    def _fill(self, place: Place, first: int, out: Float[np.ndarray, "N C"]) -> None:
        path = shard_path(self.folder, place.shard)
        offset = place.offset + first * place.shape[1] * np.dtype(place.dtype).itemsize
        try:
            _read_bytes(path, offset, memoryview(out).cast("B"))
        except OSError as error:
            raise _damaged(self.folder, f"{path.name} cannot be read ({error})") from error

    def array(self, row: int, name: str) -> Float[np.ndarray, "N C"]:
        """Return array `name` of sample `row`; raises DataError."""
        place = self.entries[row][name]
        out = np.empty(place.shape, place.dtype)
        self.read(row, name, out)
        return out

    def count(self, row: int) -> int:
        """Return the number of points of sample `row`."""
        return next(iter(self.entries[row].values())).shape[0]

    def moments(self, rows: np.ndarray, name: str) -> Moments:
        """Return the statistics of array `name` over some samples."""
        return Moments.merge(self.entries[row][name].moments for row in rows)


def shard_path(folder: Path, number: int) -> Path:
    """Return the file of a shard."""
    return folder / f"shard_{number:05d}.h5"


def open_cache(folder: Path) -> Cache | None:
    """Return the cache in `folder`, or None where there is none that is complete; raises DataError if it is damaged."""
    path = folder / INDEX_FILE
    if not path.exists():
        return None
    try:
        content = read_object(path)
        if content["format"] != FORMAT:
            raise _damaged(folder, f"it has format {content['format']} and this version reads {FORMAT}")
        if content["sum"] != _sum(content):
            raise _damaged(folder, f"{INDEX_FILE} does not match its checksum")
        entries = [{name: Place.from_json(place) for name, place in entry.items()} for entry in content["samples"]]
        sizes = list(content["shard_bytes"])
    except DataError:
        raise
    except _DAMAGE as error:
        raise _damaged(folder, f"{INDEX_FILE} cannot be read ({error})") from error
    for number, size in enumerate(sizes):
        shard = shard_path(folder, number)
        if not shard.exists() or shard.stat().st_size != size:
            raise _damaged(folder, f"{shard.name} is missing or has another size")
    return Cache(folder, entries)


def build_cache(
    folder: Path,
    total: int,
    read: Callable[[int], Arrays],
    advance: Callable[[int], None] = lambda count: None,
    shard_bytes: int = SHARD_BYTES,
) -> Cache:
    """Return the cache in `folder`, after writing what it lacks of the samples `read(0)` … `read(total - 1)`.

    `read` is called by several threads; `advance` is told how many samples are new. Raises DataError where the folder
    cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, busy=None):
            if not (folder / INDEX_FILE).exists():  # else it is complete, perhaps just made by another process
                _write(folder, total, read, advance, shard_bytes)
    except OSError as error:
        raise DataError(
            f"the cache {folder} cannot be written ({error.strerror or error}); free space or set data.cache to a "
            "folder on another disk, and run the same command again to go on"
        ) from error
    return open_cache(folder)


def _write(
    folder: Path, total: int, read: Callable[[int], Arrays], advance: Callable[[int], None], shard_bytes: int
) -> None:
    entries, number = _finished(folder)
    advance(len(entries))
    with Prefetcher(read, range(len(entries), total), ahead=2 * _WORKERS, workers=_WORKERS) as samples:
        while len(entries) < total:
            new = _write_shard(folder, number, len(entries), samples, shard_bytes)
            entries += new
            number += 1
            advance(len(new))
    content = {
        "format": FORMAT,
        "shard_bytes": [shard_path(folder, shard).stat().st_size for shard in range(number)],
        "samples": [_plain(entry) for entry in entries],
    }
    write_text(folder / INDEX_FILE, encode(content | {"sum": _sum(content)}) + "\n")


def _sum(index: Mapping[str, Any]) -> int:
    """Return a checksum over the places, shapes and statistics of all arrays."""
    return zlib.crc32(encode([index["shard_bytes"], index["samples"]]).encode())


def _finished(folder: Path) -> tuple[list[Entry], int]:
    """Return the samples in the shards that an earlier build wrote, and the number of these; remove what follows."""
    entries: list[Entry] = []
    number = 0
    while (path := shard_path(folder, number)).exists():
        try:
            with hdf5.open_hdf5(path) as file:
                content = decode_object(hdf5.read_text(hdf5.arrays(file)["entries"]))
            if content["format"] != FORMAT or content["first"] != len(entries):
                break
            new = [{name: Place.from_json(place) for name, place in entry.items()} for entry in content["samples"]]
        except _DAMAGE:
            break
        entries += new
        number += 1
    remove_leftovers(folder)
    for path in sorted(folder.glob("shard_*.h5"))[number:]:
        path.unlink()
    return entries, number


def _write_shard(folder: Path, number: int, first: int, samples: Iterator[Arrays], shard_bytes: int) -> list[Entry]:
    """Write the next samples into one file until it is large enough; return their entries."""
    entries: list[Entry] = []
    size = 0
    with replacing(shard_path(folder, number)) as temporary, h5py.File(temporary, "w") as file:
        for sample in samples:
            entries.append(_write_sample(file, f"{first + len(entries):08d}", number, sample))
            size += sum(array.nbytes for array in sample.values())
            if size >= shard_bytes:
                break
        file["entries"] = encode({"format": FORMAT, "first": first, "samples": [_plain(entry) for entry in entries]})
    return entries


def _write_sample(file: h5py.File, group: str, shard: int, sample: Arrays) -> Entry:
    entry = {}
    for name, values in sample.items():
        array = np.ascontiguousarray(values, np.float64 if values.dtype == np.float64 else np.float32)
        dataset = file.create_dataset(f"{group}/{name}", data=array, track_times=False)
        sums = zlib.crc32(array), tuple(zlib.crc32(block) for block in _blocks(array))
        entry[name] = Place(shard, dataset.id.get_offset(), array.shape, array.dtype.name, *sums, Moments.of(array))
    return entry


def _blocks(array: Float[np.ndarray, "N C"]) -> Iterator[Float[np.ndarray, "N C"]]:
    return (array[first : first + BLOCK_POINTS] for first in range(0, len(array), BLOCK_POINTS))


def _plain(entry: Entry) -> dict[str, Any]:
    return {name: place.to_json() for name, place in entry.items()}


def _read_bytes(path: Path, offset: int, view: memoryview) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        done = 0
        while done < len(view):  # one call reads 2 GiB at most
            count = os.preadv(descriptor, [view[done:]], offset + done)
            if count == 0:
                raise OSError(f"it ends after {offset + done} bytes")
            done += count
    finally:
        os.close(descriptor)


def _damaged(folder: Path, what: str) -> DataError:
    return DataError(f"the cache {folder} is damaged: {what}; delete that folder, and it is written again")

"""Arrays of a cache that look like NumPy arrays [S, N, ...] and read what is asked of them, padded where needed."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from data_pipeline.normalizer import Normalizer
from data_pipeline.streaming.cache import Cache


@dataclass(frozen=True)
class StoredRows:
    """Array `name` of the samples `rows` of a cache, encoded, padded with zeros to `length` points.

    `columns` are those of the stored array.
    """

    cache: Cache
    name: str
    rows: Int[np.ndarray, " S"]
    length: int
    columns: tuple[int, ...]
    normalizer: Normalizer
    dtype: np.dtype = field(default=np.dtype(np.float32), init=False)
    ndim: int = field(default=3, init=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.rows), self.length, len(self.columns)

    @cached_property
    def counts(self) -> Int[np.ndarray, " S"]:
        """The number of real points of each sample."""
        return np.array([self.cache.entries[row][self.name].shape[0] for row in self.rows])

    def point_mean(self) -> Float[np.ndarray, " C"]:
        """Return the mean over all real points, from the statistics that the cache keeps."""
        stored = self.cache.moments(self.rows, self.name).mean[list(self.columns)]
        return self.normalizer.encode(stored).astype(np.float32)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> "StoredRows | np.ndarray":
        """Return one sample [N, C], a part of it, or the rows of a slice, which are not read yet."""
        if isinstance(index, slice):
            return replace(self, rows=self.rows[index])
        case, *rest = index if isinstance(index, tuple) else (index,)
        return self.load([case], self.length)[(0, *rest)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Read all rows; meant for a few of them, taken by a slice."""
        return self.load(range(len(self)), self.length).astype(dtype or self.dtype, copy=False)

    def load(
        self, cases: Sequence[int], length: int, first: int = 0, stop: int | None = None
    ) -> Float[np.ndarray, "B N C"]:
        """Read points `first` … `stop` − 1, by default all, of some samples that are padded to `length` points."""
        stop = length if stop is None else stop
        out = np.empty((len(cases), stop - first, len(self.columns)), np.float32)
        for target, row in zip(out, self.rows[np.asarray(cases)], strict=True):
            place = self.cache.entries[row][self.name]
            width = place.shape[1]
            count = min(max(place.shape[0] - first, 0), len(target))
            target[count:] = 0
            if not count:
                continue
            everything = self.columns == tuple(range(width))
            # In place where that can be: at a million points every further copy takes as long as reading.
            in_place = everything and place.dtype == "float32"
            stored = target[:count] if in_place else np.empty((count, width), place.dtype)
            self.cache.read(row, self.name, stored, first)
            self.normalizer.encode_into(target[:count], stored if everything else stored[:, self.columns])
        return out


@dataclass(frozen=True)
class StoredMask:
    """Which points of samples with these numbers of points are real: an array [S, N] that is made when asked for."""

    counts: Int[np.ndarray, " S"]
    length: int
    dtype: np.dtype = field(default=np.dtype(bool), init=False)
    ndim: int = field(default=2, init=False)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.counts), self.length

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, index: Any) -> "StoredMask | np.ndarray":
        """Return the mask of one sample [N], a part of it, or those of a slice of samples."""
        if isinstance(index, slice):
            return replace(self, counts=self.counts[index])
        case, *rest = index if isinstance(index, tuple) else (index,)
        return self.load([case], self.length)[(0, *rest)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return all masks."""
        return self.load(range(len(self)), self.length).astype(dtype or self.dtype, copy=False)

    def sum(self, axis: int | None = None) -> Int[np.ndarray, " S"] | int:
        """Return the number of real points of each sample (axis 1), or of all."""
        return self.counts if axis == 1 else int(self.counts.sum())

    def load(
        self, cases: Sequence[int], length: int, first: int = 0, stop: int | None = None
    ) -> Bool[np.ndarray, "B N"]:
        """Return the masks of points `first` … `stop` − 1, by default all, of samples padded to `length` points."""
        return np.arange(first, length if stop is None else stop) < self.counts[np.asarray(cases)][:, None]


Stored = Mapping[str, StoredRows | StoredMask]


def is_stored(arrays: Mapping[str, Any]) -> bool:
    """Return whether arrays are read from disk when they are needed."""
    return any(isinstance(value, StoredRows) for value in arrays.values())


def pad_stored(arrays: Stored, multiple: int) -> dict[str, StoredRows | StoredMask]:
    """Return arrays whose number of points is a multiple of `multiple`, with a mask where that adds some."""
    rows = arrays["x"]
    length = -(-rows.length // multiple) * multiple
    if length == rows.length:
        return dict(arrays)
    masked = {"mask": StoredMask(rows.counts, length), **arrays}
    return {name: replace(value, length=length) for name, value in masked.items()}


def stored_fingerprint(arrays: Stored) -> str:
    """Return a hash of what the rows hold, from the sums that the cache keeps."""
    digest = hashlib.sha256()
    for name, value in arrays.items():
        if isinstance(value, StoredRows):
            sums = [f"{value.cache.entries[row][value.name].crc32:08x}" for row in value.rows]
            scale = [*value.normalizer.mean.tolist(), *value.normalizer.std.tolist()]
            digest.update(f"{name} {sums} {value.columns} {scale}".encode())
    return digest.hexdigest()[:16]

"""Stored arrays are read like NumPy arrays, and their statistics are those of all values."""

from dataclasses import replace

import numpy as np
import pytest

from data_pipeline.normalizer import Normalizer
from data_pipeline.streaming.cache import build_cache
from data_pipeline.streaming.moments import Moments
from data_pipeline.streaming.rows import StoredMask, StoredRows, is_stored, pad_stored, stored_fingerprint

COUNTS = (5, 9, 7, 3)
SCALING = Normalizer(np.float32([0.5, 0.25]), np.float32([2.0, 3.0]))


def values(number):
    return np.random.default_rng(number).random((COUNTS[number], 3)).astype(np.float32)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    cache = build_cache(tmp_path_factory.mktemp("cache"), 4, lambda number: {"x": values(number)})
    return StoredRows(cache, "x", np.array([2, 0, 3]), 10, (0, 2), SCALING)


@pytest.fixture
def expected():
    padded = np.zeros((3, 10, 2), np.float32)
    for row, number in zip(padded, (2, 0, 3), strict=True):
        row[: COUNTS[number]] = SCALING.encode(values(number)[:, [0, 2]])
    return padded


def test_indices(rows, expected):
    assert rows.shape == (3, 10, 2)
    np.testing.assert_array_equal(rows.counts, [7, 5, 3])
    np.testing.assert_array_equal(np.asarray(rows), expected)
    np.testing.assert_array_equal(rows[1], expected[1])
    np.testing.assert_array_equal(rows[-1], expected[-1])
    np.testing.assert_array_equal(rows[2, 1:4, 1], expected[2, 1:4, 1])
    np.testing.assert_array_equal(np.asarray(rows[1:]), expected[1:])
    np.testing.assert_array_equal(rows[1:][0], expected[1])
    np.testing.assert_array_equal(rows.load([2, 0, 2], 7), expected[[2, 0, 2], :7])
    for first, stop in ((0, 4), (4, 8), (8, 10)):  # across the ends of the real points
        np.testing.assert_array_equal(rows.load([2, 0, 2], 10, first, stop), expected[[2, 0, 2], first:stop])


def test_mean_over_real_points(rows):
    everything = np.concatenate([values(number)[:, [0, 2]] for number in (2, 0, 3)])
    np.testing.assert_allclose(rows.point_mean(), SCALING.encode(everything.mean(0)), rtol=1e-5)


def test_all_columns(rows):
    everything = replace(rows, columns=(0, 1, 2), normalizer=Normalizer.identity(3))
    np.testing.assert_array_equal(everything[0, :7], values(2))


def test_masks(rows):
    mask = StoredMask(rows.counts, 10)
    dense = np.arange(10) < np.array([[7], [5], [3]])
    assert (mask.shape, mask.ndim, len(mask)) == ((3, 10), 2, 3)
    np.testing.assert_array_equal(mask.load([2, 1], 10, 4, 8), dense[[2, 1], 4:8])
    np.testing.assert_array_equal(np.asarray(mask), dense)
    np.testing.assert_array_equal(mask[1], dense[1])
    np.testing.assert_array_equal(np.asarray(mask[1:]), dense[1:])
    np.testing.assert_array_equal(mask.sum(axis=1), dense.sum(axis=1))
    assert mask.sum() == dense.sum()
    np.testing.assert_array_equal(mask.load([2, 0], 4), dense[[2, 0], :4])


def test_padding_for_several_devices(rows, expected):
    arrays = {"x": rows}
    assert pad_stored(arrays, 5)["x"] is rows
    padded = pad_stored(arrays, 4)
    assert padded["x"].shape == (3, 12, 2)
    np.testing.assert_array_equal(np.asarray(padded["x"])[:, :10], expected)
    np.testing.assert_array_equal(padded["mask"].sum(axis=1), [7, 5, 3])
    assert is_stored(padded)
    assert not is_stored({"x": expected})


def test_fingerprints(rows):
    base = stored_fingerprint({"x": rows})
    assert base == stored_fingerprint({"x": replace(rows)})
    others = (replace(rows, rows=np.array([0, 2, 3])), replace(rows, normalizer=Normalizer.identity(2)))
    assert len({base, *(stored_fingerprint({"x": other}) for other in others)}) == 3


def test_moments_of_parts_are_those_of_all():
    # A mean far from 0, at which sums of squares in float32 would have no digits left.
    parts = [1e4 + np.random.default_rng(n).normal(size=(n + 2, 2)).astype(np.float32) for n in range(6)]
    everything = np.concatenate(parts).astype(np.float64)
    merged = Moments.merge(map(Moments.of, parts))
    assert merged.count == len(everything)
    np.testing.assert_allclose(merged.mean, everything.mean(0), rtol=1e-14)
    np.testing.assert_allclose(merged.std, everything.std(0, ddof=1), rtol=1e-9)
    np.testing.assert_allclose(merged.mean_square, np.mean(everything**2, axis=0), rtol=1e-14)
    np.testing.assert_array_equal(merged.low, everything.min(0))
    back = Moments.from_json(merged.to_json())
    np.testing.assert_array_equal(back.squares, merged.squares)
    np.testing.assert_array_equal(back.high, merged.high)

"""Edges that a caller gives: sorted and padded, or one sentence on what is wrong with them."""

import numpy as np
import pytest

from flare_jax.graph_inputs import check_edges, pad_edges
from flare_jax.layers.segment import NO_NODE

EDGES = np.array([[0, 2, 1, 0], [2, 0, 0, 1]])


def test_edges_are_sorted_by_target_and_padded():
    found = check_edges(EDGES, 2, 3, "the cloud")
    assert found.T.tolist() == [[1, 0], [2, 0], [0, 1], [0, 2]]
    padded = pad_edges([found, found[:, :1]], 6)
    assert padded.shape == (2, 6, 2)
    assert (padded[1, 1:] == NO_NODE).all()
    assert check_edges(None, 0, 3, "the cloud") is None


@pytest.mark.parametrize(
    ("edges", "rows", "message"),
    [
        (EDGES, 0, "cloud 1 has edges, but the model sends no messages along any; leave them out"),
        (None, 2, r"cloud 1 has no edges, .*; give edges, an array \[2, E\] of integers, rows source, target$"),
        (EDGES, 3, r"have shape \(2, 4\) and dtype int64; give an array \[3, E\] of integers, .* and mark"),
        (EDGES.T, 2, r"have shape \(4, 2\)"),
        (EDGES.astype(float), 2, "dtype float64"),
        (EDGES + 1, 2, "name points 1 to 3, but there are 3, numbered from 0"),
    ],
)
def test_bad_edges(edges, rows, message):
    with pytest.raises(ValueError, match=message) as raised:
        check_edges(edges, rows, 3, "cloud 1")
    assert "\n" not in str(raised.value)

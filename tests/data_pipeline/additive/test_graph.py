"""Edges, hanging nodes and aspect ratios of hexahedral meshes."""

import numpy as np
import pytest

from data_pipeline.additive import graph
from data_pipeline.errors import DataError
from tests.data_pipeline.additive.meshes import block, coarse_beside_fine


def test_edges_of_a_block_are_counted_sorted_and_go_both_ways():
    a, b, c = 4, 3, 2
    _, elements = block(a, b, c)
    edges = graph.edges(elements)
    assert edges.shape == (2, 2 * (a * (b + 1) * (c + 1) + (a + 1) * b * (c + 1) + (a + 1) * (b + 1) * c))
    assert {tuple(edge) for edge in edges.T} == {tuple(edge[::-1]) for edge in edges.T}
    np.testing.assert_array_equal(np.lexsort((edges[1], edges[0])), np.arange(edges.shape[1]))
    assert np.bincount(edges[0]).max() == 6


def test_numbering_permutes_edges_only():
    points, elements = block(3, 2, 2)
    order = np.random.default_rng(0).permutation(len(points))
    renamed = graph.edges(order[elements][::-1])
    expected = {(order[a], order[b]) for a, b in graph.edges(elements).T}
    assert {tuple(edge) for edge in renamed.T} == expected


def test_hanging_nodes_are_joined_to_their_parents():
    points, elements = coarse_beside_fine()
    hanging = graph.hanging_nodes(points, elements)
    expected = (points[:, 0] == 2) & (points[:, 1:] == 1).any(axis=1)
    np.testing.assert_array_equal(hanging, expected)
    sources, targets = graph.hanging_edges(points, elements)
    parents = {tuple(points[a]): {tuple(points[b]) for b in targets[sources == a]} for a in np.flatnonzero(hanging)}
    corners = {(2.0, y, z) for y in (0.0, 2.0) for z in (0.0, 2.0)}
    assert parents[2.0, 1.0, 1.0] == corners
    assert parents[2.0, 1.0, 0.0] == {(2.0, 0.0, 0.0), (2.0, 2.0, 0.0)}
    assert len(sources) == 2 * (4 + 4 * 2)


def test_aspect_ratio_is_that_of_the_edges():
    points, elements = block(2, 1, 1, size=(0.5, 1.0, 2.0))
    np.testing.assert_allclose(graph.aspect_ratios(points, elements), [4.0, 4.0])


def test_elements_that_are_no_boxes_have_no_lattice():
    points, elements = block(2, 1, 1)
    points[0, 0] -= 0.3
    with pytest.raises(DataError, match="element 0 is no box along the axes"):
        graph.hanging_nodes(points, elements)

"""The graph of a hexahedral mesh: edges between nodes, hanging nodes with their parents, aspect ratios."""

import numpy as np
from jaxtyping import Bool, Float, Int

from data_pipeline.additive.lattice import CORNERS, Lattice

# The edges of a hexahedron as pairs of corners: round the bottom, round the top, upwards.
EDGES = np.array(
    [(0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7)], dtype=np.int64
)


def edges(elements: Int[np.ndarray, "M 8"]) -> Int[np.ndarray, "2 E"]:
    """Return the edges of the elements, each once in both directions, sorted by source (row 0), then target (row 1)."""
    ends = np.asarray(elements, np.int64)[:, EDGES].reshape(-1, 2)
    return _both_ways(ends)


def edge_vectors(points: Float[np.ndarray, "N 3"], edge_index: Int[np.ndarray, "2 E"]) -> Float[np.ndarray, "E 3"]:
    """Return source minus target of every edge, in the units of the points."""
    return points[edge_index[0]] - points[edge_index[1]]


def aspect_ratios(points: Float[np.ndarray, "N 3"], elements: Int[np.ndarray, "M 8"]) -> Float[np.ndarray, " M"]:
    """Return the longest over the shortest of the twelve edges of every element."""
    ends = np.asarray(points, np.float64)[np.asarray(elements)[:, EDGES]]
    lengths = np.linalg.norm(ends[:, :, 0] - ends[:, :, 1], axis=-1)
    return lengths.max(axis=1) / lengths.min(axis=1)


def hanging_nodes(points: Float[np.ndarray, "N 3"], elements: Int[np.ndarray, "M 8"]) -> Bool[np.ndarray, " N"]:
    """Return which nodes lie on an edge or a face of an element, or in it, without being one of its corners.

    Raises DataError for elements that are not the boxes of a lattice.
    """
    hanging = np.zeros(len(points), bool)
    hanging[_inside_others(points, elements)[1]] = True
    return hanging


def hanging_edges(points: Float[np.ndarray, "N 3"], elements: Int[np.ndarray, "M 8"]) -> Int[np.ndarray, "2 E"]:
    """Return edges between hanging nodes and their `parents`, both directions, sorted like `edges`."""
    return _both_ways(parents(points, elements))


def parents(points: Float[np.ndarray, "N 3"], elements: Int[np.ndarray, "M 8"]) -> Int[np.ndarray, "P 2"]:
    """Return pairs of a hanging node and one of its parents, each once, sorted.

    The parents of a node are the two ends of the edge, or the four corners of the face, of the larger element on which
    it lies; of a node on an edge of one and a face of another element the two ends count. Nodes in the middle of an
    element have none. Raises DataError for elements that are not the boxes of a lattice.
    """
    lattice = Lattice.of(points, elements)
    owner, node = _inside_others(points, elements, lattice)
    low, high = lattice.low[owner], lattice.high[owner]
    place = lattice.ticks_of(np.asarray(points)[node])
    within = (place > low) & (place < high)
    dimensions = within.sum(axis=1)
    on_edge = np.zeros(len(points), bool)
    on_edge[node[dimensions == 1]] = True
    keep = (dimensions == 1) | ((dimensions == 2) & ~on_edge[node])
    owner, node, within, place, low = owner[keep], node[keep], within[keep], place[keep], low[keep]
    # A corner is a parent when it agrees with the node in every direction in which the node is at the element's side.
    upper = place > low
    agrees = (within[:, None] | (CORNERS.astype(bool) == upper[:, None])).all(axis=2)
    which, corner = np.nonzero(agrees)
    return np.unique(np.stack([node[which], np.asarray(elements, np.int64)[owner[which], corner]], axis=1), axis=0)


def _inside_others(
    points: np.ndarray, elements: np.ndarray, lattice: "Lattice | None" = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return all pairs of an element and a node in its closed box that is not its corner."""
    lattice = Lattice.of(points, elements) if lattice is None else lattice
    used = np.unique(elements)
    ticks = lattice.ticks_of(np.asarray(points)[used])
    codes = lattice.code(ticks)
    order = np.argsort(codes)
    owners, nodes = [], []
    for span in lattice.spans():
        if span.max() == 1:
            continue
        members = lattice.with_span(span)
        steps = np.stack(np.meshgrid(*(np.arange(size + 1) for size in span), indexing="ij"), axis=-1).reshape(-1, 3)
        corner = ((steps == 0) | (steps == span)).all(axis=1)
        for step in steps[~corner]:
            wanted = lattice.code(lattice.low[members] + step)
            at = np.minimum(np.searchsorted(codes, wanted, sorter=order), len(codes) - 1)
            found = codes[order[at]] == wanted
            owners.append(members[found])
            nodes.append(used[order[at[found]]])
    empty = np.zeros(0, np.int64)
    return np.concatenate([empty, *owners]), np.concatenate([empty, *nodes])


def _both_ways(ends: Int[np.ndarray, "E 2"]) -> Int[np.ndarray, "2 E"]:
    """Return pairs of nodes without repetition, in both directions, sorted."""
    count = int(ends.max(initial=-1)) + 1
    both = np.concatenate([ends, ends[:, ::-1]])
    codes = np.unique(both[:, 0] * count + both[:, 1])
    return np.stack([codes // max(count, 1), codes % max(count, 1)])

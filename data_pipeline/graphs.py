"""Graphs of meshes for models that send messages along edges: pairs (source, target) in the order of their targets."""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int

from data_pipeline.additive.graph import EDGES as HEXAHEDRON

# What padded edges name: more than any node (`flare_jax.layers.segment.NO_NODE`).
NO_NODE = np.iinfo(np.int32).max
# Numbers of edges are padded to multiples of this.
EDGE_MULTIPLE = 128

# Pairs of corners of a cell that an edge joins, by its number of corners and the dimension of the mesh.
_SIDES = {
    "triangle": ((0, 1), (1, 2), (2, 0)),
    "quad": ((0, 1), (1, 2), (2, 3), (3, 0)),
    "tetra": ((0, 1), (1, 2), (2, 0), (0, 3), (1, 3), (2, 3)),
    "hexahedron": HEXAHEDRON,
}


def by_target(edge_index: Int[np.ndarray, "2 E"]) -> Int[np.ndarray, " E"]:
    """Return the order of edges (row 0 source, row 1 target) by target, then by source."""
    return np.lexsort((edge_index[0], edge_index[1]))


def edges_of_mesh(blocks: Iterable[tuple[str, Int[np.ndarray, "M _"]]]) -> Int[np.ndarray, "2 E"] | None:
    """Return the edges of a mesh of several types of cells, those of other types left out; None where none is left."""
    found = [edges_of_cells(kind, cells) for kind, cells in blocks if kind in _SIDES and len(cells)]
    if not found:
        return None
    joined = np.unique(np.concatenate(found, axis=1), axis=1)
    return joined[:, by_target(joined)]


def edges_of_cells(kind: str, cells: Int[np.ndarray, "M _"]) -> Int[np.ndarray, "2 E"]:
    """Return the edges of the cells of a mesh, each once in both directions, by target, then by source.

    `kind` is triangle, quad, tetra or hexahedron, with the corners in VTK's order, numbered from 0.
    """
    sides = np.asarray(_SIDES[kind])
    pairs = np.sort(np.asarray(cells, np.int64)[:, sides].reshape(-1, 2), axis=1)
    if not len(pairs):
        return np.zeros((2, 0), np.int32)
    count = pairs.max() + 1
    codes = np.unique(pairs[:, 0] * count + pairs[:, 1])
    low, high = np.divmod(codes, count)
    # A cell that names a corner twice has no edge there.
    low, high = low[low != high], high[low != high]
    index = np.stack([np.concatenate([low, high]), np.concatenate([high, low])])
    return index[:, by_target(index)].astype(np.int32)


def pad_edges(graphs: Sequence[Int[np.ndarray, "_ E"]]) -> Int[np.ndarray, "S E _"]:
    """Return the edges of several graphs as one array, padded at the end; a third row is the mark of a kind."""
    most = max(graph.shape[1] for graph in graphs)
    size = max(EDGE_MULTIPLE, -(-most // EDGE_MULTIPLE) * EDGE_MULTIPLE)
    padded = np.full((len(graphs), size, len(graphs[0])), NO_NODE, np.int32)
    padded[:, :, 2:] = 0
    for row, graph in zip(padded, graphs, strict=True):
        row[: graph.shape[1]] = graph.T
    return padded


def cut_edges(edges: Int[np.ndarray, "S E _"]) -> Int[np.ndarray, "S E _"]:
    """Return the edges without padding that all of these graphs have."""
    most = int((edges[..., 1] != NO_NODE).sum(axis=1).max(initial=0))
    return edges[:, : max(EDGE_MULTIPLE, -(-most // EDGE_MULTIPLE) * EDGE_MULTIPLE)]

"""Edges of clouds of different sizes, as a model that sends messages along them takes them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

from flare_jax.layers.segment import NO_NODE

Edges = Int[np.ndarray, "_ _"]


def check_edges(edges: ArrayLike | None, rows: int, points: int, where: str) -> Edges | None:
    """Return the edges of a cloud of so many `points` sorted by target, None for models that take none (0 `rows`).

    `rows` is 2 (source, target) or 3 (and the mark of their kind). Raises ValueError for edges that are missing, not
    wanted, of another shape, or that name points which are not there.
    """
    if not rows:
        if edges is not None:
            raise ValueError(f"{where} has edges, but the model sends no messages along any; leave them out")
        return None
    wanted = f"an array [{rows}, E] of integers, rows source, target{' and mark' if rows == 3 else ''}"
    if edges is None:
        raise ValueError(f"{where} has no edges, along which the model sends messages; give edges, {wanted}")
    index = np.asarray(edges)
    if index.ndim != 2 or len(index) != rows or index.dtype.kind not in "iu":
        raise ValueError(f"the edges of {where} have shape {index.shape} and dtype {index.dtype}; give {wanted}")
    ends = index[:2]
    if ends.size and not 0 <= ends.min() <= ends.max() < points:
        raise ValueError(
            f"the edges of {where} name points {ends.min()} to {ends.max()}, but there are {points}, numbered from 0"
        )
    return index[:, np.lexsort((index[0], index[1]))].astype(np.int32)


def pad_edges(graphs: Sequence[Edges], length: int) -> Int[np.ndarray, "B E _"]:
    """Return the edges of several clouds as one array of `length` edges each, padded at the end."""
    padded = np.full((len(graphs), length, len(graphs[0])), NO_NODE, np.int32)
    padded[:, :, 2:] = 0
    for row, graph in zip(padded, graphs, strict=True):
        row[: graph.shape[1]] = graph.T
    return padded

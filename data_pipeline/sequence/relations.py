"""Three tasks of composition, drawn exactly as the original draws them, sample after sample.

Function composition: the sequence s encodes f(i) = s[i]; is f(f(0)) = 0? Binary relation composition: which pairs of
nodes of a random graph are joined by two steps? Quotient: which pairs of different nodes have different successors of
one colour? The draws come from Python's and NumPy's legacy generators in a fixed order, so sample i depends on the
seed and on the samples before it, not on how many are drawn. Source: tasks of the Strassen attention paper
(arXiv 2501.19215, section 6).
"""

import random
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from data_pipeline.sequence.dataset import IGNORE_INDEX

Row = Int[np.ndarray, " N"]


class Sample(NamedTuple):
    """Token ids and labels of one sample: one label, or one per token. `colors` [n] belong to the nodes of a graph."""

    input_ids: Row
    labels: Row
    colors: Row | None = None


def function_composition(seed: int = 42, *, min_length: int = 25, max_length: int = 30) -> Iterator[Sample]:
    """Yield sequences s with the label whether s[s[0]] is 0."""
    choose, draw = random.Random(seed), np.random.RandomState(seed)
    while True:
        label = choose.choice([0, 1])
        length = choose.choice(range(min_length, max_length + 1))
        values = draw.randint(0, length, size=length)
        if label == 1:
            values[values[0]] = 0
        elif values[values[0]] == 0:
            values[values[0]] = _nonzero_image(values, choose)
        yield Sample(values, np.array([label]))


def _nonzero_image(values: Row, choose: random.Random) -> int:
    """Return an index above 0 with a nonzero value, setting such a value where there is none."""
    candidates = [index for index in range(1, len(values)) if values[index] != 0]
    if candidates:
        return choose.choice(candidates)
    index = choose.choice(range(1, len(values)))
    values[index] = choose.choice(range(1, len(values)))
    return index


def binary_relation(
    seed: int = 42, *, min_nodes: int = 6, max_nodes: int = 8, probability: float = 0.325
) -> Iterator[Sample]:
    """Yield adjacency matrices, row by row, with the matrix of pairs joined by exactly two steps."""
    choose, draw = random.Random(seed), np.random.RandomState(seed)
    while True:
        nodes = choose.randint(min_nodes, max_nodes)
        edges = draw.binomial(1, probability, (nodes, nodes))
        yield Sample(edges.reshape(-1), (edges @ edges > 0).astype(edges.dtype).reshape(-1))


def quotient_relation(
    seed: int = 42, *, min_nodes: int = 6, max_nodes: int = 8, probability: float = 0.433
) -> Iterator[Sample]:
    """Yield graphs without self loops; the label of i ≠ j: do they have different successors of one colour?

    Labels on the diagonal are ignored. The colours, 1 … n, are not in the token ids: see `encode_colors`.
    """
    choose, draw = random.Random(seed), np.random.RandomState(seed)
    while True:
        nodes = choose.randint(min_nodes, max_nodes)
        edges = draw.binomial(1, probability, (nodes, nodes))
        np.fill_diagonal(edges, 0)
        colors = draw.randint(1, nodes + 1, nodes)
        of_color = edges @ (colors[:, None] == np.arange(1, nodes + 1))  # successors of i with colour c
        # Pairs of one colour, without those in which both steps lead to the same node.
        pairs = of_color @ of_color.T - edges @ edges.T
        labels = (pairs > 0).astype(edges.dtype)
        np.fill_diagonal(labels, IGNORE_INDEX)
        yield Sample(edges.reshape(-1), labels.reshape(-1), colors)


def encode_colors(input_ids: Row, colors: Row) -> Row:
    """Return the tokens of a graph with colour + 1 of every node on the diagonal, so that labels can be computed."""
    matrix = input_ids.reshape(len(colors), len(colors)).copy()
    np.fill_diagonal(matrix, colors + 1)
    return matrix.reshape(-1)

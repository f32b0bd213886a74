"""Hanging nodes follow their parents: every displacement and temperature is a mean of those of free nodes."""

import numpy as np
import scipy.sparse as sparse
from jaxtyping import Float, Int

from data_pipeline.additive.graph import parents
from data_pipeline.errors import DataError


def hanging_constraints(
    points: Float[np.ndarray, "N 3"], elements: Int[np.ndarray, "M 8"]
) -> tuple[sparse.csr_array, Int[np.ndarray, " F"]]:
    """Return the matrix [N, F] from values at the free nodes to values at all nodes, and the free nodes.

    A node in the middle of an edge is the mean of its two ends, one in the middle of a face that of the four corners;
    parents that hang themselves are replaced by theirs. Raises DataError where a node is not in the middle.
    """
    pairs = parents(points, elements)
    count = len(points)
    number = np.bincount(pairs[:, 0], minlength=count)
    weights = 1.0 / number[pairs[:, 0]]
    step = sparse.csr_array((weights, (pairs[:, 0], pairs[:, 1])), (count, count))
    hanging = number > 0
    off = np.abs((step @ points - points)[hanging]).max(initial=0.0)
    if off > 1e-6 * np.ptp(points, axis=0).max():
        raise DataError(
            f"a hanging node is {off:.2g} mm beside the middle of its edge or face; neighbouring elements may "
            "differ by a factor of 2 at most"
        )
    free = np.flatnonzero(~hanging)
    stay = sparse.csr_array((np.ones(len(free)), (free, free)), (count, count))
    once = stay + step
    matrix = once
    while abs(matrix[:, np.flatnonzero(hanging)]).sum() > 0:
        matrix = matrix @ once
    return matrix[:, free].tocsr(), free

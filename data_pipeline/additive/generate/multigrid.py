"""Conjugate gradients with smoothed aggregation, for elasticity and heat conduction on graded meshes.

Aggregates of neighbouring unknowns move as rigid bodies (or share one temperature) on the next coarser level; their
motions are smoothed by one Jacobi step (Vanek, Mandel and Brezina 1996). The hierarchy of a body also preconditions the
problems of its earlier, smaller states, whose unknowns are the first ones: residuals are padded with zeros.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse
from jaxtyping import Float, Int

_COARSEST = 600  # unknowns that are solved directly
_DEGREE = 2  # of the Chebyshev smoother
_SMOOTHED_PART = 12.0  # the smoother treats eigenvalues from the largest one down to this part of it
_MOST_ITERATIONS = 1000
_ROUNDING = 1e-12


@dataclass(frozen=True)
class _Level:
    matrix: sparse.csr_array
    inverse_diagonal: Float[np.ndarray, " U"]
    largest: float  # eigenvalue of the scaled matrix
    prolongation: sparse.csr_array
    restriction: sparse.csr_array


class Multigrid:
    """A symmetric preconditioner for a sparse matrix with `width` unknowns per node, and its near-kernel `modes`."""

    def __init__(self, matrix: sparse.csr_array, modes: Float[np.ndarray, "U K"], width: int) -> None:
        self.size = matrix.shape[0]
        self._levels: list[_Level] = []
        current, kernel = matrix.astype(np.float64), modes
        while current.shape[0] > _COARSEST:
            level, current, kernel = _coarsened(current, kernel, width)
            self._levels.append(level)
            width = kernel.shape[1]
            if level.prolongation.shape[1] > 0.7 * level.matrix.shape[0]:
                break
        self._coarsest = _inverse(current.toarray(), float(matrix.diagonal().max())).astype(np.float32)

    def __call__(self, residual: Float[np.ndarray, " U"]) -> Float[np.ndarray, " U"]:
        """Return an approximate solution for a residual, which may be that of the first unknowns only."""
        scale = float(np.abs(residual).max(initial=0.0))
        if scale == 0.0:
            return np.zeros_like(residual)
        padded = np.zeros(self.size, np.float32)
        padded[: len(residual)] = residual / scale
        return self._cycle(0, padded)[: len(residual)].astype(np.float64) * scale

    def _cycle(self, number: int, right: np.ndarray) -> np.ndarray:
        if number == len(self._levels):
            return self._coarsest @ right
        level = self._levels[number]
        solution = _chebyshev(level, right, None)
        coarse = self._cycle(number + 1, level.restriction @ (right - level.matrix @ solution))
        solution += level.prolongation @ coarse
        return _chebyshev(level, right, solution)


def conjugate_gradients(
    matrix: sparse.csr_array,
    right: Float[np.ndarray, " U"],
    preconditioner: Multigrid,
    tolerance: float,
    start: Float[np.ndarray, " U"] | None = None,
) -> tuple[Float[np.ndarray, " U"], int]:
    """Solve to a residual of `tolerance` relative to the right side; return solution and iterations.

    Raises ArithmeticError where it does not converge.
    """
    size = float(np.linalg.norm(right))
    solution = np.zeros_like(right) if start is None else start.copy()
    if size == 0.0:
        return np.zeros_like(right), 0
    residual = right - matrix @ solution if start is not None else right.copy()
    direction, product = np.zeros_like(right), 1.0
    last = np.zeros_like(right)
    for iteration in range(_MOST_ITERATIONS):
        if np.linalg.norm(residual) <= tolerance * size:
            return solution, iteration
        preconditioned = preconditioner(residual)
        # The flexible form forgives the preconditioner's single precision.
        new_product = float(preconditioned @ residual)
        direction = preconditioned + direction * (float(preconditioned @ (residual - last)) / product)
        product = new_product
        applied = matrix @ direction
        energy = float(direction @ applied)
        if not energy > 0.0:
            raise ArithmeticError(
                f"a matrix with {len(right)} unknowns is not positive definite; the body has loose parts"
            )
        step = product / energy
        solution += step * direction
        last = residual.copy()
        residual -= step * applied
    raise ArithmeticError(
        f"conjugate gradients reached a residual of {np.linalg.norm(residual) / size:.1e} in {_MOST_ITERATIONS} "
        f"iterations on {len(right)} unknowns, not {tolerance:.1e}"
    )


def rigid_modes(points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "U 6"]:
    """Return the three translations and three small rotations of points as displacements x, y, z of each."""
    x, y, z = (points - points.mean(axis=0)).T
    modes = np.zeros((len(points), 3, 6))
    for d in range(3):
        modes[:, d, d] = 1.0
    modes[:, 1, 3], modes[:, 2, 3] = -z, y
    modes[:, 0, 4], modes[:, 2, 4] = z, -x
    modes[:, 0, 5], modes[:, 1, 5] = -y, x
    return modes.reshape(-1, 6)


def _inverse(matrix: np.ndarray, scale: float) -> np.ndarray:
    """Return the inverse of a matrix without its kernel, what is rounding at the `scale` of the finest matrix.

    The rigid motions of a free body are in it, and on the coarsest level there may be nothing else.
    """
    values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
    kept = values > _ROUNDING * scale
    return (vectors[:, kept] / values[kept]) @ vectors[:, kept].T


def _coarsened(matrix: sparse.csr_array, modes: np.ndarray, width: int) -> tuple[_Level, sparse.csr_array, np.ndarray]:
    diagonal = matrix.diagonal()
    inverse = 1.0 / np.where(diagonal > 0, diagonal, 1.0)
    largest = _largest_eigenvalue(matrix, inverse)
    aggregate = _aggregates(_node_graph(matrix, width))
    tentative, coarse_modes = _tentative(aggregate, modes, width)
    scaled = sparse.diags_array(inverse * (4.0 / 3.0 / largest)) @ matrix
    prolongation = (tentative - scaled @ tentative).tocsr()
    restriction = prolongation.T.tocsr()
    coarse = (restriction @ (matrix @ prolongation)).tocsr()
    level = _Level(
        matrix.astype(np.float32),
        inverse.astype(np.float32),
        largest,
        prolongation.astype(np.float32),
        restriction.astype(np.float32),
    )
    return level, coarse, coarse_modes


def _largest_eigenvalue(matrix: sparse.csr_array, inverse: np.ndarray) -> float:
    """Return an upper estimate of the largest eigenvalue of the scaled matrix, by the power method."""
    vector = np.random.default_rng(0).normal(size=matrix.shape[0])
    value = 1.0
    for _ in range(12):
        vector = inverse * (matrix @ vector)
        value = float(np.linalg.norm(vector))
        vector /= value
    return 1.1 * value


def _node_graph(matrix: sparse.csr_array, width: int) -> sparse.csr_array:
    """Return which nodes are coupled, from a matrix with `width` unknowns per node."""
    rows = np.repeat(np.arange(matrix.shape[0]) // width, np.diff(matrix.indptr))
    nodes = matrix.shape[0] // width
    pattern = sparse.coo_array((np.ones(matrix.nnz, np.float32), (rows, matrix.indices // width)), (nodes, nodes))
    return pattern.tocsr()


def _aggregates(graph: sparse.csr_array) -> Int[np.ndarray, " N"]:
    """Return the number of the aggregate of every node: a node with all its neighbours, then what is left over."""
    aggregate = np.full(graph.shape[0], -1, np.int64)
    indptr, indices, count = graph.indptr, graph.indices, 0
    for node in range(graph.shape[0]):
        if aggregate[node] >= 0:
            continue
        around = indices[indptr[node] : indptr[node + 1]]
        if (aggregate[around] < 0).all():
            aggregate[around] = count
            count += 1
    first = aggregate.copy()
    for node in np.flatnonzero(first < 0):
        around = first[indices[indptr[node] : indptr[node + 1]]]
        around = around[around >= 0]
        if len(around):
            aggregate[node] = around[0]
        else:
            aggregate[node] = count
            count += 1
    return aggregate


def _tentative(aggregate: np.ndarray, modes: np.ndarray, width: int) -> tuple[sparse.csr_array, np.ndarray]:
    """Return the prolongation that has the modes on every aggregate, orthonormal there, and the coarse modes."""
    owner = np.repeat(aggregate, width)
    order = np.argsort(owner, kind="stable")
    counts = np.bincount(owner)
    start = np.concatenate([[0], np.cumsum(counts)])
    kinds = modes.shape[1]
    values = np.zeros_like(modes)
    coarse = np.zeros((len(counts), kinds, kinds))
    for size in np.unique(counts):
        members = np.flatnonzero(counts == size)
        rows = order[start[members][:, None] + np.arange(size)]
        # By eigenvectors of the Gram matrix: aggregates of one or two nodes do not have all rotations.
        gram = np.einsum("aik,ail->akl", modes[rows], modes[rows])
        eigenvalues, vectors = np.linalg.eigh(gram)
        used = eigenvalues > 1e-10 * eigenvalues[:, -1:]
        inverse_root = np.where(used, 1.0 / np.sqrt(np.where(used, eigenvalues, 1.0)), 0.0)
        values[rows] = modes[rows] @ (vectors * inverse_root[:, None])
        root = np.where(used, np.sqrt(np.where(used, eigenvalues, 0.0)), 0.0)
        coarse[members] = root[:, :, None] * np.swapaxes(vectors, 1, 2)
    columns = (owner[:, None] * kinds + np.arange(kinds)).ravel()
    indptr = np.arange(0, values.size + 1, kinds)
    shape = (len(owner), len(counts) * kinds)
    return sparse.csr_array((values.ravel(), columns, indptr), shape), coarse.reshape(-1, kinds)


def _chebyshev(level: _Level, right: np.ndarray, start: np.ndarray | None) -> np.ndarray:
    """Return a few steps of the Chebyshev iteration on the upper part of the scaled matrix's spectrum."""
    high, low = np.float32(level.largest), np.float32(level.largest / _SMOOTHED_PART)
    centre, half = (high + low) / 2, (high - low) / 2
    solution = np.zeros_like(right) if start is None else start
    residual = right if start is None else right - level.matrix @ solution
    rho = half / centre
    direction = level.inverse_diagonal * residual / centre
    solution = solution + direction
    for _ in range(_DEGREE - 1):
        residual = right - level.matrix @ solution
        following = 1 / (2 * centre / half - rho)
        direction = following * rho * direction + (2 * following / half) * (level.inverse_diagonal * residual)
        rho = following
        solution = solution + direction
    return solution

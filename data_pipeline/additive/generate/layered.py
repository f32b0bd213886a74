"""Quasi-static mechanics of a build: groups of layers with an inherent strain on a plate, cooling, release.

Small strains, linear isotropic elasticity. A group is laid at its nominal place on the body below, which has moved
already, and then shrinks by its inherent strain; its increment of displacement moves the whole body. The state after
the last group is cooled, and released by taking away the forces of the plate; a rigid motion is removed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse
from jaxtyping import Float, Int

from data_pipeline.additive.generate.bricks import Brick, brick
from data_pipeline.additive.generate.constraints import hanging_constraints
from data_pipeline.additive.generate.multigrid import Multigrid, conjugate_gradients, rigid_modes

PLATE = -1  # the group of the elements that are there from the start
_GROWTH = 1.35  # a new hierarchy is made when a body has grown by more than this since


@dataclass(frozen=True)
class Body:
    """Box elements [M, 8] on nodes [N, 3] in mm, each of a group; `PLATE` elements stand on the held lowest plane."""

    nodes: Float[np.ndarray, "N 3"]
    elements: Int[np.ndarray, "M 8"]
    group: Int[np.ndarray, " M"]

    @property
    def sizes(self) -> Float[np.ndarray, "M 3"]:
        """The edges of every element along x, y and z."""
        return np.round(self.nodes[self.elements[:, 6]] - self.nodes[self.elements[:, 0]], 9)

    @property
    def volumes(self) -> Float[np.ndarray, " M"]:
        """The volume of every element in mm³."""
        return self.sizes.prod(axis=1)

    @property
    def groups(self) -> int:
        """The number of groups on the plate."""
        return int(self.group.max()) + 1

    def first_group(self) -> Int[np.ndarray, " N"]:
        """Return the group by which every node comes to be."""
        first = np.full(len(self.nodes), np.iinfo(np.int64).max)
        np.minimum.at(first, self.elements.ravel(), np.repeat(self.group, 8))
        return first


class Mechanics:
    """The state of a body: displacements `u` [N, 3], stresses [M, 6] in the middle, and end forces [M, 24] of elements.

    `tolerance` is the relative residual of every solution.
    """

    def __init__(
        self,
        body: Body,
        material: Float[np.ndarray, "6 6"],
        incompatible: bool = True,
        tolerance: float = 1e-6,
        hold_plate: bool = True,
    ) -> None:
        self.body, self._tolerance, self._material = body, tolerance, material
        self.u = np.zeros_like(body.nodes)
        self.stress = np.zeros((len(body.elements), 6))
        self.forces = np.zeros((len(body.elements), 24))
        sizes, self._kind = np.unique(body.sizes, axis=0, return_inverse=True)
        self._kind = self._kind.ravel()
        self._bricks: list[Brick] = [brick(size, material, incompatible) for size in sizes]
        self._hold = hold_plate
        self.iterations: list[int] = []

    def build(self, inherent: Float[np.ndarray, "L 6"]) -> Iterator[int]:
        """Lay group after group with its inherent strain, and yield the number of each when its state is there."""
        self._system = _System(self.body, self._kind, self._bricks, self._hold)
        for group in range(self.body.groups):
            self._system.add_up_to(group)
            strain = np.zeros((len(self.body.elements), 6))
            members = self.body.group == group
            strain[members] = inherent[group]
            self._load(strain, self.body.group <= group)
            yield group

    def strain_all(self, strain: Float[np.ndarray, "M 6"]) -> None:
        """Give every element of the finished body a strain of its own, as cooling does."""
        self._load(strain, np.ones(len(self.body.elements), bool))

    def _load(self, strain: np.ndarray, active: np.ndarray) -> None:
        """Add the increment by which the active elements follow inherent strains."""
        load = np.zeros((len(self.body.elements), 24))
        for number, one in enumerate(self._bricks):
            members = (self._kind == number) & active
            load[members] = strain[members] @ one.load.T
        increment, iterations = self._system.solve(_scattered(load, self.body), self._tolerance)
        self.iterations.append(iterations)
        self.u += increment
        moved = increment[self.body.elements].reshape(-1, 24)
        for number, one in enumerate(self._bricks):
            members = (self._kind == number) & active
            self.stress[members] += (moved[members] @ one.strain.T - strain[members]) @ self._material
            self.forces[members] += moved[members] @ one.stiffness - load[members]

    def released(self) -> "Mechanics":
        """Return the state of the part alone after the plate is gone, without rigid motion."""
        keep = self.body.group != PLATE
        used, number = np.unique(self.body.elements[keep], return_inverse=True)
        part = Body(self.body.nodes[used], number.reshape(-1, 8), self.body.group[keep])
        result = Mechanics(part, self._material, tolerance=self._tolerance, hold_plate=False)
        result._kind, result._bricks = self._kind[keep], self._bricks
        result.u, result.stress, result.forces = self.u[used].copy(), self.stress[keep].copy(), self.forces[keep].copy()
        system = _System(part, result._kind, result._bricks, hold=False)
        system.add_up_to(part.groups - 1)
        increment, iterations = system.solve(-_scattered(result.forces, part), self._tolerance)
        result.iterations.append(iterations)
        moved = increment[part.elements].reshape(-1, 24)
        for kind, one in enumerate(self._bricks):
            members = result._kind == kind
            result.stress[members] += moved[members] @ one.strain.T @ self._material
            result.forces[members] += moved[members] @ one.stiffness
        result.u = without_rigid_motion(part.nodes, result.u + increment)
        return result

    def residual(self) -> Float[np.ndarray, "N 3"]:
        """Return the sums of the end forces at the nodes: 0 in equilibrium, except at held and hanging nodes."""
        return _scattered(self.forces, self.body)


def without_rigid_motion(
    points: Float[np.ndarray, "N 3"], displacement: Float[np.ndarray, "N 3"]
) -> Float[np.ndarray, "N 3"]:
    """Return displacements without the translation and small rotation nearest to them by least squares."""
    modes = rigid_modes(points)
    motion = np.linalg.lstsq(modes, displacement.ravel(), rcond=None)[0]
    return displacement - (modes @ motion).reshape(-1, 3)


def nodal_means(body: Body, values: Float[np.ndarray, "M C"]) -> Float[np.ndarray, "N C"]:
    """Return the means of values of elements at the nodes, weighted by volume."""
    weights = np.repeat(body.volumes, 8)
    corners = body.elements.ravel()
    total = np.bincount(corners, weights)
    sums = [np.bincount(corners, weights * np.repeat(column, 8)) for column in values.T]
    return np.stack(sums, axis=-1) / total[:, None]


def _scattered(forces: np.ndarray, body: Body) -> np.ndarray:
    """Return forces [M, 24] of elements summed at the nodes."""
    corners, each = body.elements.ravel(), forces.reshape(-1, 3)
    return np.stack([np.bincount(corners, each[:, d], len(body.nodes)) for d in range(3)], axis=-1)


class _System:
    """The stiffness of the groups so far, on unknowns in the order in which the groups bring them."""

    def __init__(self, body: Body, kind: np.ndarray, bricks: Sequence[Brick], hold: bool) -> None:
        self._body, self._kind, self._bricks, self._hold = body, kind, bricks, hold
        self._constraint, self._free = hanging_constraints(body.nodes, body.elements)
        first = body.first_group()[self._free]
        if hold:
            lowest = body.nodes[:, 2].min()
            loose = body.nodes[self._free, 2] > lowest + 1e-9
        else:
            loose = np.ones(len(self._free), bool)
        order = np.flatnonzero(loose)[np.argsort(first[loose], kind="stable")]
        self._first = first[order]
        self._points = body.nodes[self._free[order]]
        chosen = self._constraint[:, order]
        self._expand = sparse.kron(chosen, sparse.eye_array(3), format="csr")
        size = self._expand.shape[1]
        self._sum = sparse.csr_array((size, size))
        self._stages: list[Multigrid] = []
        self._added = PLATE - 1
        self._group = PLATE

    def add_up_to(self, group: int) -> None:
        """Make the elements of all groups up to this one part of the body."""
        self._sum = self._sum + self._matrix(group)
        self._added, self._group = max(self._added, group), group
        count = self._active()
        self._current = self._sum[:count, :count]

    def solve(self, forces: Float[np.ndarray, "N 3"], tolerance: float) -> tuple[Float[np.ndarray, "N 3"], int]:
        """Return the displacements by forces at the nodes, and the iterations it took."""
        count = self._active()
        right = (self._expand.T @ forces.ravel())[:count]
        if not self._hold:
            # Forces on a free body balance up to rounding and the tolerance of earlier solutions; the rest of them
            # would move it without end.
            kernel = np.linalg.qr(rigid_modes(self._points[: count // 3]))[0]
            right = right - kernel @ (kernel.T @ right)
        solution, iterations = conjugate_gradients(self._current, right, self._preconditioner(count), tolerance)
        full = np.zeros(self._expand.shape[1])
        full[:count] = solution
        return (self._expand @ full).reshape(-1, 3), iterations

    def _active(self) -> int:
        return 3 * int(np.searchsorted(self._first, self._group, side="right"))

    def _matrix(self, group: int) -> sparse.csr_array:
        """Return the stiffness of the elements of groups that are not added yet, up to one."""
        added = (self._body.group <= group) & (self._body.group > self._added)
        rows, columns, values = [], [], []
        for number, one in enumerate(self._bricks):
            elements = self._body.elements[(self._kind == number) & added]
            unknowns = (3 * elements[:, :, None] + np.arange(3)).reshape(-1, 24)
            rows.append(np.repeat(unknowns, 24, axis=1).ravel())
            columns.append(np.tile(unknowns, 24).ravel())
            values.append(np.tile(one.stiffness.ravel(), len(elements)))
        entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
        matrix = sparse.coo_array(entries, (self._body.nodes.size,) * 2).tocsr()
        return self._expand.T @ (matrix @ self._expand)

    def _preconditioner(self, count: int) -> Multigrid:
        """Return the hierarchy of the body as it is at the end of the present stage of its growth."""
        if not self._stages or self._stages[-1].size < count:
            ahead = self._ahead(count)
            size = 3 * int(np.searchsorted(self._first, ahead, side="right"))
            matrix = self._sum + self._matrix(ahead) if ahead > self._group else self._sum
            modes = rigid_modes(self._points[: size // 3])
            self._stages.append(Multigrid(matrix[:size, :size].tocsr(), modes, 3))
        return self._stages[-1]

    def _ahead(self, count: int) -> int:
        """Return the last group with which the body has not grown too much."""
        sizes = {
            g: 3 * int(np.searchsorted(self._first, g, side="right")) for g in range(self._group, self._body.groups)
        }
        return max((g for g, size in sizes.items() if size <= _GROWTH * count), default=self._group)

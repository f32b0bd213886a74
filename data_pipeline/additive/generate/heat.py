"""Transient heat conduction in a build: hot groups on a plate that loses heat through its lower side.

Backward Euler in time and lumped heat capacities, so that no temperature leaves the range of its surroundings, on the
mesh of the mechanics. Every group comes with the temperature at which its metal solidifies, and cools for as long as
its powder layers take to recoat and melt.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse
from jaxtyping import Float
from scipy.sparse.linalg import cg

from data_pipeline.additive.generate.bricks import conduction_matrix
from data_pipeline.additive.generate.constraints import hanging_constraints
from data_pipeline.additive.generate.layered import Body

AMBIENT = 25.0  # °C
_TOLERANCE, _MOST_ITERATIONS = 1e-6, 5000


@dataclass(frozen=True)
class HeatSettings:
    """Ti-6Al-4V and the machine; W, J, mm, s, °C."""

    conductivity: float = 0.0067  # W / (mm K)
    capacity: float = 2.43e-3  # J / (mm³ K)
    film: float = 2.5e-5  # W / (mm² K), at the lower side of the plate
    activation: float = 1650.0  # °C, of a group when it is laid
    recoating: float = 20.0  # s, for every powder layer
    powder_layers: int = 80  # in a whole group
    melting_rate: float = 168.0  # mm²/s: hatch distance 0.14 mm times speed 1200 mm/s
    steps: int = 2  # of the time integration in every group


class Heat:
    """The temperature [N] of a body, in °C; `add` lays a group, `wait` lets time pass."""

    def __init__(self, body: Body, settings: HeatSettings) -> None:
        self._body, self._settings = body, settings
        self.temperature = np.full(len(body.nodes), AMBIENT)
        self._constraint, free = hanging_constraints(body.nodes, body.elements)
        self._first = body.first_group()[free]
        self._free = free
        self._sizes, self._kind = np.unique(body.sizes, axis=0, return_inverse=True)
        self._kind = self._kind.ravel()
        self._group = -1
        self._capacity, self._conduction = self._matrices(-1)
        bottom = self._bottom_areas()
        self._film = self._constraint.T @ (settings.film * bottom)

    def dwell(self, group: int) -> float:
        """Return how long the powder layers of a group take, in s."""
        members = self._body.group == group
        heights = self._body.nodes[self._body.elements[members]][..., 2]
        area = self._body.volumes[members].sum() / float(np.ptp(heights))
        layers = self._settings.powder_layers
        return layers * (self._settings.recoating + area / self._settings.melting_rate)

    def add(self, group: int) -> None:
        """Lay a group at its activation temperature; the nodes that it shares with others get the mean by capacity."""
        capacity, conduction = self._matrices(group)
        state = self.temperature[self._free]
        before = np.asarray(self._capacity.sum(axis=1)).ravel()
        new = np.asarray(capacity.sum(axis=1)).ravel()
        total = before + new
        mixed = (before * state + new * self._settings.activation) / np.where(total > 0, total, 1.0)
        self._capacity, self._conduction = self._capacity + capacity, self._conduction + conduction
        self._group = group
        self.temperature = self._constraint @ np.where(total > 0, mixed, AMBIENT)

    def wait(self, duration: float) -> None:
        """Let the body lose heat for a while, in s."""
        step = duration / self._settings.steps
        active = np.flatnonzero(self._first <= self._group)
        capacity = np.asarray(self._capacity.sum(axis=1)).ravel()[active]
        film = self._film[active]
        conduction = self._conduction[active][:, active]
        matrix = (conduction + sparse.diags_array(capacity / step + film)).tocsr()
        inverse = sparse.diags_array(1.0 / matrix.diagonal())
        excess = self.temperature[self._free][active] - AMBIENT
        for _ in range(self._settings.steps):
            excess, failed = cg(
                matrix, capacity / step * excess, excess, rtol=_TOLERANCE, maxiter=_MOST_ITERATIONS, M=inverse
            )
            if failed:
                raise ArithmeticError(f"heat conduction did not converge in {_MOST_ITERATIONS} iterations")
        state = self.temperature[self._free].copy()
        state[active] = AMBIENT + excess
        self.temperature = self._constraint @ state

    def heat(self) -> float:
        """Return the heat of the body above the ambient temperature, in J."""
        capacity = np.asarray(self._capacity.sum(axis=1)).ravel()
        return float(capacity @ (self.temperature[self._free] - AMBIENT))

    def _matrices(self, group: int) -> tuple[sparse.csr_array, sparse.csr_array]:
        """Return heat capacities and conduction, on the free nodes, of the elements of one group."""
        body, settings = self._body, self._settings
        members = body.group == group
        shares = np.repeat(body.volumes[members] * settings.capacity / 8.0, 8)
        lumped = np.bincount(body.elements[members].ravel(), shares, len(body.nodes))
        capacity = sparse.diags_array(self._constraint.T @ lumped).tocsr()
        rows, columns, values = [], [], []
        for number, size in enumerate(self._sizes):
            elements = body.elements[(self._kind == number) & members]
            rows.append(np.repeat(elements, 8, axis=1).ravel())
            columns.append(np.tile(elements, 8).ravel())
            values.append(np.tile(settings.conductivity * conduction_matrix(size).ravel(), len(elements)))
        entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
        matrix = sparse.coo_array(entries, (len(body.nodes),) * 2).tocsr()
        return capacity, (self._constraint.T @ matrix @ self._constraint).tocsr()

    def _bottom_areas(self) -> Float[np.ndarray, " N"]:
        """Return the area of the body's lower side that belongs to every node, in mm²."""
        body = self._body
        lowest = body.nodes[:, 2].min()
        below = np.abs(body.nodes[body.elements[:, 0], 2] - lowest) < 1e-9
        area = body.sizes[below, 0] * body.sizes[below, 1] / 4.0
        return np.bincount(body.elements[below, :4].ravel(), np.repeat(area, 4), len(body.nodes))

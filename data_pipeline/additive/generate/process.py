"""The build of one part, frame by frame as the simulation program writes them: layers, cooling, release."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int

from data_pipeline.additive.ensight import TENSOR, all_fields, von_mises
from data_pipeline.additive.generate.bricks import elasticity_matrix
from data_pipeline.additive.generate.heat import AMBIENT, Heat, HeatSettings
from data_pipeline.additive.generate.layered import Body, Mechanics, nodal_means

# Of the solver's order xx, yy, zz, yz, xz, xy: the columns of `TENSOR`.
_COLUMNS = [("xx", "yy", "zz", "yz", "xz", "xy").index(name) for name in TENSOR]
_COOLING, _RELEASE = 7200.0, 60.0  # s


@dataclass(frozen=True)
class Process:
    """Material and machine; MPa, 1/K, and the strain that every group takes on (xx, yy, zz, yz, xz, xy)."""

    young: float = 110e3
    poisson: float = 0.34
    expansion: float = 9e-6
    inherent: tuple[float, ...] = (-0.008, -0.008, -0.005, 0.0, 0.0, 0.0)
    tolerance: float = 1e-6
    heat: HeatSettings = field(default_factory=HeatSettings)


@dataclass(frozen=True)
class Frame:
    """A state of the build on the elements that are there: displacements [N, 3], stresses [M, 6], temperatures [N].

    `layer` is the group that was laid last, `time` in s.
    """

    body: Body
    disp: Float[np.ndarray, "N 3"]
    element_stress: Float[np.ndarray, "M 6"]
    temp: Float[np.ndarray, " N"]
    time: float
    layer: int

    def stress(self) -> Float[np.ndarray, "N 6"]:
        """Return the stresses at the nodes in the order `TENSOR`, means of the elements around weighted by volume."""
        return nodal_means(self.body, self.element_stress)[:, _COLUMNS]

    def fields(self, process: Process) -> dict[str, np.ndarray]:
        """Return all fields per node by their names in `data_pipeline.additive.ensight.FIELDS`."""
        stress = self.stress()
        compliance = np.linalg.inv(elasticity_matrix(process.young, process.poisson))
        back = np.argsort(_COLUMNS)
        clearance = recoater_clearance(self)
        return {
            "disp": self.disp,
            "temp": self.temp[:, None],
            "cauchy_stress": stress,
            "strain": (stress[:, back] @ compliance)[:, _COLUMNS],
            **all_fields(stress),
            "recoater_clearance_percent": clearance,
            "recoater_status": (clearance < 20.0).astype(float),
        }


def recoater_clearance(frame: Frame) -> Float[np.ndarray, "N 1"]:
    """Return what a rise of the node leaves of the gap of one element layer under the recoater, in percent."""
    gap = float(np.min(frame.body.sizes[frame.body.group >= 0, 2]))
    return 100.0 * np.clip(1.0 - frame.disp[:, 2:] / gap, 0.0, 1.0)


def build(body: Body, process: Process) -> Iterator[Frame]:
    """Yield the frames: two for every group, laid and finished; the cooled part; the part without its plate."""
    mechanics = Mechanics(body, elasticity_matrix(process.young, process.poisson), tolerance=process.tolerance)
    heat, time = Heat(body, process.heat), 0.0
    inherent = np.tile(process.inherent, (body.groups, 1))
    solved = mechanics.build(inherent)
    for group in range(body.groups):
        heat.add(group)
        yield _frame(body, mechanics, heat.temperature, time, group)
        dwell = heat.dwell(group)
        heat.wait(dwell)
        time += dwell
        next(solved)
        yield _frame(body, mechanics, heat.temperature, time, group)
    change = AMBIENT - heat.temperature[body.elements].mean(axis=1)
    mechanics.strain_all(process.expansion * change[:, None] * np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0]))
    cold = np.full(len(body.nodes), AMBIENT)
    time += _COOLING
    yield _frame(body, mechanics, cold, time, body.groups - 1)
    released = mechanics.released()
    part = released.body
    time += _RELEASE
    yield Frame(part, released.u, released.stress, np.full(len(part.nodes), AMBIENT), time, body.groups - 1)


def _frame(body: Body, mechanics: Mechanics, temperature: np.ndarray, time: float, group: int) -> Frame:
    there = body.group <= group
    used, mesh = submesh(body, there)
    return Frame(mesh, mechanics.u[used], mechanics.stress[there], temperature[used], time, group)


def submesh(body: Body, there: Bool[np.ndarray, " M"]) -> tuple[Int[np.ndarray, " N"], Body]:
    """Return the nodes that the chosen elements use, and the mesh of these elements."""
    used, number = np.unique(body.elements[there], return_inverse=True)
    return used, Body(body.nodes[used], number.reshape(-1, 8), body.group[there])


def von_mises_of(frame: Frame) -> Float[np.ndarray, "N 1"]:
    """Return the von Mises stress at the nodes in MPa."""
    return von_mises(frame.stress())[:, None]

"""The states of a series on the union of its meshes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from data_pipeline.additive.case import SeriesCase
from data_pipeline.additive.graph import edges
from data_pipeline.additive.interpolate import inverse_distance, trilinear_where
from data_pipeline.additive.series import TOLERANCE, active_nodes
from data_pipeline.additive.union import union
from data_pipeline.errors import DataError

INTERPOLATIONS = ("trilinear", "idw")


@dataclass(frozen=True)
class Step:
    """The state of a part after one group of layers, on the mesh of that step; units as in `case`."""

    pos: Float[np.ndarray, "N 3"]
    elems: Int[np.ndarray, "M 8"]
    disp: Float[np.ndarray, "N 3"]
    vmstr: Float[np.ndarray, "N 1"]
    temp: Float[np.ndarray, "N 1"]
    time: float


def merge(name: str, steps: Sequence[Step], interpolation: str = "trilinear") -> SeriesCase:
    """Return all steps on one mesh: every field interpolated at the active nodes, 0 at the others.

    `interpolation` is "trilinear", or "idw" for the original's. Raises DataError for meshes that do not fit together.
    """
    if interpolation not in INTERPOLATIONS:
        raise DataError(f"interpolation={interpolation!r} is not known; choose one of {', '.join(INTERPOLATIONS)}")
    pos, elems = union([(step.pos, step.elems) for step in steps])
    zmax = np.array([np.asarray(step.pos)[np.unique(step.elems), 2].max() for step in steps], np.float64)
    states = np.zeros((len(steps), len(pos), 5))
    for number, step in enumerate(steps):
        try:
            states[number] = state_on(pos, step, zmax[number], interpolation)
        except DataError as error:
            raise DataError(f"step {number} of {name}: {error}") from error
    times = np.array([step.time for step in steps], np.float64)
    return SeriesCase(name, pos, elems, edges(elems), zmax, times, states[..., :3], states[..., 3:4], states[..., 4:5])


def state_on(
    pos: Float[np.ndarray, "N 3"], step: Step, top: float, interpolation: str = "trilinear"
) -> Float[np.ndarray, "N 5"]:
    """Return displacement, von Mises stress and temperature of a step, of height `top`, at the nodes of another mesh.

    They are 0 above the top, and where an overhang of the next group begins at the height of the top. Raises DataError
    where the mesh of the step lacks other nodes.
    """
    there = np.flatnonzero(active_nodes(pos[:, 2], np.array([top]))[0])
    fields = np.concatenate([step.disp, step.vmstr, step.temp], axis=1)
    state = np.zeros((len(pos), fields.shape[1]))
    if interpolation == "idw":
        state[there] = inverse_distance(step.pos, fields, pos[there])
        return state
    state[there], found = trilinear_where(step.pos, step.elems, fields, pos[there])
    lost = there[~found & (pos[there, 2] < top - TOLERANCE)]
    if len(lost):
        place = ", ".join(f"{value:g}" for value in pos[lost[0]])
        raise DataError(
            f"its mesh lacks {len(lost)} nodes of other steps below its top at {top:g} mm, the first at ({place}) mm; "
            "the steps are not of the same part"
        )
    return state

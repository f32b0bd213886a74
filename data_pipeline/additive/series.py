"""Samples of the layer-by-layer series: from the fields after one group of layers to their increment by the next.

A series lives on one mesh. `zmax[k]` is the top of the part after step k; a node is active from the first step whose
top it does not exceed, and its fields are zero before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial import cKDTree

from data_pipeline.additive.samples import FIELDS, SCALE, scaled_fields
from data_pipeline.errors import DataError

TOLERANCE = 1e-4  # mm, of heights in float32


@dataclass(frozen=True)
class SeriesSample:
    """One step: inputs `x` [N, 3 + C] (scaled positions, then fields), target increments `y` [N, C], both scaled.

    `mask` [N] is true at the nodes that are active after the step; `t` is the time of the step and `T` that of the
    last, in units of 60 mm of height.
    """

    x: Float[np.ndarray, "N C_in"]
    y: Float[np.ndarray, "N C"]
    mask: Bool[np.ndarray, " N"]
    t: float
    T: float


def active_nodes(
    heights: Float[np.ndarray, " N"], zmax: Float[np.ndarray, " T"], tolerance: float = TOLERANCE
) -> Bool[np.ndarray, "T N"]:
    """Return which nodes are there after every step, from their heights and the tops, in mm."""
    return np.asarray(heights)[None, :] <= np.asarray(zmax)[:, None] + tolerance


def new_nodes(
    heights: Float[np.ndarray, " N"], zmax: Float[np.ndarray, " T"], tolerance: float = TOLERANCE
) -> Bool[np.ndarray, "T N"]:
    """Return which nodes every step adds; those of the first step are all that it has."""
    active = active_nodes(heights, zmax, tolerance)
    return active & ~np.concatenate([np.zeros_like(active[:1]), active[:-1]])


def fill_sources(
    pos: Float[np.ndarray, "N 3"], zmax: Float[np.ndarray, " T"], step: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the nodes in (zmax[step], zmax[step+1]], and for each the nearest node of the layers of `step`.

    These are the nodes in [zmax[step-1], zmax[step]], from 0 mm for step 0, by distance in space.
    """
    heights = np.asarray(pos)[:, 2]
    below = zmax[step - 1] if step else 0.0
    new = np.flatnonzero((heights > zmax[step] + TOLERANCE) & (heights <= zmax[step + 1] + TOLERANCE))
    layer = np.flatnonzero((heights >= below - TOLERANCE) & (heights <= zmax[step] + TOLERANCE))
    if not len(layer):
        raise DataError(f"no node lies between the heights {below} and {zmax[step]} mm of step {step}; check zmax")
    nearest = cKDTree(np.asarray(pos, np.float64)[layer]).query(np.asarray(pos, np.float64)[new])[1]
    return new, layer[nearest]


def fill_new_layer(
    pos: Float[np.ndarray, "N 3"], zmax: Float[np.ndarray, " T"], step: int, state: Float[np.ndarray, "N C"]
) -> Float[np.ndarray, "N C"]:
    """Return the fields after `step` with those of the nearest node at the nodes which the next step adds."""
    new, sources = fill_sources(pos, zmax, step)
    filled = state.copy()
    filled[new] = state[sources]
    return filled


def step_times(zmax: Float[np.ndarray, " T"]) -> tuple[Float[np.ndarray, " T"], float]:
    """Return the time of every step and of the last, in units of 60 mm of height."""
    if len(zmax) < 2:
        raise DataError(f"a series of {len(zmax)} step has no increment to learn; give at least 2 groups of layers")
    last = float(zmax[-1]) / float(SCALE[2])
    return last / (len(zmax) - 1) * np.arange(len(zmax)), last


def series_samples(
    arrays: Mapping[str, np.ndarray],
    fields: Sequence[str] = tuple(FIELDS),
    fill: bool = False,
) -> list[SeriesSample]:
    """Return the samples of all steps but the last.

    Arguments:
        arrays: pos [N, 3] and zmax [T] in mm, disp [T, N, 3], vmstr and temp [T, N, 1], 0 at inactive nodes.
        fields: names of `data_pipeline.additive.samples.FIELDS`.
        fill: give new nodes the fields of the nearest node of the layers below them, so that their increment is small.

    Raises DataError for one step alone, unknown fields and layers without nodes.
    """
    pos, zmax = np.asarray(arrays["pos"]), np.asarray(arrays["zmax"])
    times, last = step_times(zmax)
    states = scaled_fields(arrays, fields)
    active = active_nodes(pos[:, 2], zmax)
    samples = []
    for step in range(len(zmax) - 1):
        state = fill_new_layer(pos, zmax, step, states[step]) if fill else states[step]
        x = np.concatenate([pos / SCALE, state], axis=1)
        samples.append(SeriesSample(x, states[step + 1] - state, active[step + 1], float(times[step]), last))
    return samples

"""Samples of the final state of a part: scaled positions, chosen fields and edge vectors (arXiv 2508.12594, LPBF)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from data_pipeline.additive.graph import edge_vectors
from data_pipeline.errors import DataError

SCALE = np.array([30.0, 30.0, 60.0])  # mm, of positions, edges and distances
# Array of a case, channel, unit and name in figures of every field that can be learnt, in the order of the channels.
FIELDS = {
    "disp_z": ("disp", 2, 1.0, "z-displacement (mm)"),
    "vm": ("vmstr", 0, 1000.0, "von Mises stress / 1000"),
    "temp": ("temp", 0, 500.0, "temperature / 500"),
}


@dataclass(frozen=True)
class FinalSample:
    """One part: inputs `x` [N, 3], targets `y` [N, C], both scaled, and scaled edge vectors [E, 3]."""

    x: Float[np.ndarray, "N 3"]
    y: Float[np.ndarray, "N C"]
    edge_attr: Float[np.ndarray, "E 3"]


def check_fields(fields: Sequence[str], option: str = "fields") -> None:
    """Raise DataError unless these are names of `FIELDS`, each once; `option` gave them."""
    unknown = [name for name in fields if name not in FIELDS]
    if unknown or not fields or len(set(fields)) != len(fields):
        raise DataError(f"{option}={','.join(fields)!r} is not understood; name some of {', '.join(FIELDS)}, each once")


def scaled_fields(arrays: Mapping[str, np.ndarray], fields: Sequence[str]) -> Float[np.ndarray, "*S N C"]:
    """Return fields of a case in their units; `arrays` hold disp [..., N, 3], vmstr and temp [..., N, 1]."""
    check_fields(fields)
    columns = [arrays[array][..., channel] / unit for array, channel, unit, _ in (FIELDS[name] for name in fields)]
    return np.stack(columns, axis=-1)


def final_sample(
    arrays: Mapping[str, np.ndarray], edge_index: Int[np.ndarray, "2 E"], fields: Sequence[str] = ("disp_z",)
) -> FinalSample:
    """Return the sample of a part; `arrays` hold pos [N, 3] in mm and the arrays of the fields."""
    pos = np.asarray(arrays["pos"], np.float64)
    return FinalSample(pos / SCALE, scaled_fields(arrays, fields), edge_vectors(pos, edge_index) / SCALE)

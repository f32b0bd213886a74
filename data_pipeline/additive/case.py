"""The files of one part: npz archives of named arrays, without pickles.

Final state, after cooling and removal from the plate (the layout of the public set `vedantpuri/LPBF_FLARE`):

    pos [N, 3] mm, elems [M, 8] from 0, edge_index [2, E], disp [N, 3] mm, vmstr [N, 1] MPa, temp [N, 1] °C, float32 and
    integers; further fields of a simulation under the names of `data_pipeline.additive.ensight.FIELDS`

Series, one state after every group of layers, on one mesh:

    pos, elems, edge_index as above, zmax [T] mm (top after every step), times [T] s, disp [T, N, 3], vmstr [T, N, 1],
    temp [T, N, 1], which are 0 at nodes above zmax

Both may hold the surface of the CAD model, stl_verts [P, 3] mm and stl_faces [F, 3].
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from data_pipeline.errors import DataError
from data_pipeline.files import read_npz
from data_pipeline.numpy_files import open_npz
from runtime.files import replacing

_MESH = {"pos": (None, 3), "elems": (None, 8), "edge_index": (2, None)}
_FINAL = {**_MESH, "disp": (None, 3), "vmstr": (None, 1), "temp": (None, 1)}
_SERIES = {
    **_MESH,
    "zmax": (None,),
    "times": (None,),
    "disp": (None, None, 3),
    "vmstr": (None, None, 1),
    "temp": (None, None, 1),
}
_INTEGERS = ("elems", "edge_index", "stl_faces")


@dataclass(frozen=True)
class FinalCase:
    """The final state of one part; see the module for the units."""

    name: str
    pos: Float[np.ndarray, "N 3"]
    elems: Int[np.ndarray, "M 8"]
    edge_index: Int[np.ndarray, "2 E"]
    disp: Float[np.ndarray, "N 3"]
    vmstr: Float[np.ndarray, "N 1"]
    temp: Float[np.ndarray, "N 1"]
    others: Mapping[str, np.ndarray] = field(default_factory=dict)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by the names they have in the file."""
        return {**{name: getattr(self, name) for name in _FINAL}, **self.others}


@dataclass(frozen=True)
class SeriesCase:
    """The states of one part after every group of layers, on one mesh; see the module for the units."""

    name: str
    pos: Float[np.ndarray, "N 3"]
    elems: Int[np.ndarray, "M 8"]
    edge_index: Int[np.ndarray, "2 E"]
    zmax: Float[np.ndarray, " T"]
    times: Float[np.ndarray, " T"]
    disp: Float[np.ndarray, "T N 3"]
    vmstr: Float[np.ndarray, "T N 1"]
    temp: Float[np.ndarray, "T N 1"]
    others: Mapping[str, np.ndarray] = field(default_factory=dict)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by the names they have in the file."""
        return {**{name: getattr(self, name) for name in _SERIES}, **self.others}


def read_final(path: Path) -> FinalCase:
    """Read the final state of a part, a published file or one of ours; raises DataError."""
    arrays = _read(path, _FINAL)
    return FinalCase(path.stem, **arrays)


def read_series(path: Path) -> SeriesCase:
    """Read the series of a part; raises DataError."""
    arrays = _read(path, _SERIES)
    steps = {name: len(arrays[name]) for name in ("zmax", "times", "disp", "vmstr", "temp")}
    if len(set(steps.values())) > 1:
        raise DataError(f"{path} has arrays of different numbers of steps {steps}; write it again")
    return SeriesCase(path.stem, **arrays)


def write_case(path: Path, case: FinalCase | SeriesCase) -> None:
    """Write a case, whole or not at all: fields as float32, integers as they are needed; its folder must exist."""
    with replacing(path) as temporary:
        np.savez_compressed(temporary, **{name: _stored(name, array) for name, array in case.arrays().items()})


def _stored(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind == "U":
        return array
    if name == "edge_index":
        return np.asarray(array, np.int64)
    return np.asarray(array, np.int32 if name in _INTEGERS else np.float32)


def _read(path: Path, shapes: Mapping[str, tuple[int | None, ...]]) -> dict[str, np.ndarray]:
    """Return the named arrays, checked against each other: lengths, and integers that name nodes."""
    numbers = read_npz(path, {name: shape for name, shape in shapes.items() if name not in _INTEGERS})
    with open_npz(path) as archive:
        missing = [name for name in shapes if name not in archive.files]
        if missing:
            raise DataError(f"{path} lacks the arrays {missing}; get the file again")
        integers = {name: archive.read(name) for name in shapes if name in _INTEGERS}
    count = len(numbers["pos"])
    lengths = {name: numbers[name].shape[-2] for name in ("pos", "disp", "vmstr", "temp")}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{path} has arrays of different lengths {lengths}; get the file again")
    for name, array in integers.items():
        wanted = shapes[name]
        fits = array.ndim == 2 and all(w in (None, have) for w, have in zip(wanted, array.shape, strict=True))
        if not fits or array.dtype.kind not in "iu":
            raise DataError(f"{path}[{name}] has shape {array.shape} and dtype {array.dtype}; get the file again")
        if array.size and not 0 <= array.min() <= array.max() < count:
            raise DataError(
                f"{path}[{name}] names nodes {array.min()} to {array.max()} of {count}; number the nodes from 0"
            )
    return {**numbers, **integers}

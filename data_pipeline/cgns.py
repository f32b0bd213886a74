"""The points of boundary conditions in CGNS files, which VTK's reader gives of few kinds and as further zones.

Files are read as the standard's mapping onto HDF5 lays them out; those of the older ADF have no conditions here.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from jaxtyping import Int

from data_pipeline import hdf5
from data_pipeline.errors import DataError

# Nodes of an element by the number of its type (CGNS Standard Interface Data Structures, section 7.3).
_NODES = {
    **{2: 1, 3: 2, 4: 3, 5: 3, 6: 6, 7: 4, 8: 8, 9: 9, 10: 4, 11: 10, 12: 5, 13: 14, 14: 6, 15: 15, 16: 18, 17: 8},
    **{18: 20, 19: 27, 21: 13, 24: 4, 25: 9, 26: 10, 27: 12, 28: 16},
}
_MIXED, _POLYGONS, _POLYHEDRA = 20, 22, 23
_AXIS_OF_FACES = {"IFaceCenter": 0, "JFaceCenter": 1, "KFaceCenter": 2}

Numbers = Int[np.ndarray, " _"]


class _Section(NamedTuple):
    """Elements that are numbered from `first`: points (counted from 1) one after the other, and where each begins."""

    first: int
    points: Numbers
    offsets: Numbers

    def points_of(self, elements: Numbers) -> Numbers:
        """Return the points of those of the elements, by number, that are in this section."""
        rows = elements[(elements >= self.first) & (elements < self.first + len(self.offsets) - 1)] - self.first
        parts = [self.points[self.offsets[row] : self.offsets[row + 1]] for row in rows]
        return np.concatenate([np.zeros(0, int), *parts])


def boundary_sets(path: Path) -> dict[str, dict[str, Numbers]]:
    """Return by zone, as `Base/Zone`, the points from 0 of every boundary condition, by its family or else its name.

    Raises DataError for a damaged file.
    """
    if not h5py.is_hdf5(path):
        return {}
    with hdf5.open_hdf5(path, "a CGNS file") as file:
        return {
            f"{base_name}/{name}": _sets_of(zone, f"{path}:{base_name}/{name}")
            for base_name, base in _labelled(file, "CGNSBase_t")
            for name, zone in _labelled(base, "Zone_t")
        }


def _sets_of(zone: h5py.Group, where: str) -> dict[str, Numbers]:
    sizes = _data(zone).reshape(3, -1)[0]
    found: dict[str, Numbers] = {}
    for _, conditions in _labelled(zone, "ZoneBC_t"):
        for name, condition in _labelled(conditions, "BC_t"):
            points = _structured(condition, sizes) if len(sizes) > 1 else _unstructured(condition, zone)
            if len(points) and not (points.min() >= 1 and points.max() <= np.prod(sizes)):
                raise DataError(
                    f"{where} has a boundary condition {name!r} on points {points.min()} to {points.max()}, but there "
                    f"are {np.prod(sizes)}, numbered from 1; get the file again"
                )
            family = next((_text(group) for _, group in _labelled(condition, "FamilyName_t")), "")
            known = found.get(family or name, np.zeros(0, int))
            found[family or name] = np.union1d(known, points - 1)
    return found


def _structured(condition: h5py.Group, sizes: Numbers) -> Numbers:
    """Return the points of a condition on a grid, from 1, with the first index fastest."""
    strides = np.cumprod([1, *sizes[:-1]])
    ranges, lists = _numbers(condition, "IndexRange_t"), _numbers(condition, "IndexArray_t")
    found = [1 + (one.reshape(-1, len(sizes)) - 1) @ strides for one in lists]
    for one in ranges:
        ends = np.sort(one.reshape(2, len(sizes)), axis=0)
        place = _place(condition)
        if place != "Vertex":
            # Faces or cells: the points behind them too, but along the axis that faces are across.
            flat = np.flatnonzero(ends[0] == ends[1])
            across = _AXIS_OF_FACES.get(place, flat[0] if place == "FaceCenter" and len(flat) else None)
            ends[1] += [axis != across for axis in range(len(sizes))]
        axes = [np.arange(low - 1, high) * stride for low, high, stride in zip(*ends, strides, strict=True)]
        found.append(1 + sum(np.meshgrid(*axes, indexing="ij")).ravel())
    return np.concatenate([np.zeros(0, int), *found]).astype(int)


def _unstructured(condition: h5py.Group, zone: h5py.Group) -> Numbers:
    """Return the points of a condition on points or on elements, from 1."""
    ranges, lists = _numbers(condition, "IndexRange_t"), _numbers(condition, "IndexArray_t")
    spans = [np.arange(one.min(), one.max() + 1) for one in map(np.ravel, ranges) if len(one)]
    chosen = np.concatenate([np.zeros(0, int), *spans, *map(np.ravel, lists)]).astype(int)
    children = hdf5.groups(condition)
    on_points = _place(condition) == "Vertex" and not {"ElementRange", "ElementList"} & set(children)
    if on_points or not len(chosen):
        return chosen
    sections = [_section(group) for _, group in _labelled(zone, "Elements_t")]
    return np.concatenate([np.zeros(0, int), *(one.points_of(chosen) for one in sections if one is not None)])


def _section(group: h5py.Group) -> _Section | None:
    """Return a section of elements, None for polyhedra, which name faces."""
    children = hdf5.groups(group)
    kind, first = int(_data(group)[0]), int(_data(children["ElementRange"])[0])
    if kind == _POLYHEDRA:
        return None
    numbers = _data(children["ElementConnectivity"])
    if kind in _NODES:
        return _Section(first, numbers, np.arange(0, len(numbers) + 1, _NODES[kind]))
    if kind == _POLYGONS and "ElementStartOffset" in children:
        return _Section(first, numbers, _data(children["ElementStartOffset"]))
    # Every element is behind the number of its type, or before version 4 a polygon behind that of its points.
    points, offsets, at = [], [0], 0
    while at < len(numbers):
        size = _NODES.get(int(numbers[at]), 0) if kind == _MIXED else int(numbers[at])
        if size < 1:
            raise DataError(f"{group.file.filename} has an element of the unknown type {numbers[at]}; save it without")
        points.append(numbers[at + 1 : at + 1 + size])
        offsets.append(offsets[-1] + size)
        at += 1 + size
    return _Section(first, np.concatenate([np.zeros(0, int), *points]), np.array(offsets))


def _place(condition: h5py.Group) -> str:
    return next((_text(group) for _, group in _labelled(condition, "GridLocation_t")), "Vertex")


def _numbers(condition: h5py.Group, label: str) -> list[np.ndarray]:
    """Return the numbers of a condition's points: not the list of its normals, which are none of integers."""
    found = [_data(group) for _, group in _labelled(condition, label)]
    return [array for array in found if array.dtype.kind in "iu"]


def _labelled(group: h5py.Group, label: str) -> Iterator[tuple[str, h5py.Group]]:
    """Yield the nodes of a label below one, by name."""
    children: Mapping[str, h5py.Group] = hdf5.groups(group)
    for name, child in children.items():
        text = child.attrs.get("label", b"")
        if (text.decode() if isinstance(text, bytes) else str(text)).strip("\0 ") == label:
            yield name, child


def _data(group: h5py.Group) -> np.ndarray:
    found = hdf5.arrays(group).get(" data")
    if found is None:
        raise DataError(f"{group.file.filename}:{group.name} has no values; get the file again")
    return hdf5.read_array(found)


def _text(group: h5py.Group) -> str:
    return bytes(_data(group).astype(np.uint8)).decode(errors="replace").strip("\0 ")

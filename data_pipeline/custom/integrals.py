"""Integrals over the cells of a mesh as sums over its points: forces, fluxes and means over marked regions.

Fields are linear in a cell, so that its integral is its size times the mean over its corners. Every point thus has a
size and, of boundaries and surfaces, a normal of that length; an integral is a sum of products with these.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from data_pipeline.errors import DataError

# Faces of linear cells by their corners, with normals that may point either way.
_FACES: Mapping[str, tuple[tuple[int, ...], ...]] = {
    "triangle": ((0, 1), (1, 2), (2, 0)),
    "quad": ((0, 1), (1, 2), (2, 3), (3, 0)),
    "tetra": ((0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3)),
    "hexahedron": ((0, 1, 2, 3), (4, 5, 6, 7), (0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7)),
    "wedge": ((0, 1, 2), (3, 4, 5), (0, 1, 4, 3), (1, 2, 5, 4), (2, 0, 3, 5)),
    "pyramid": ((0, 1, 2, 3), (0, 1, 4), (1, 2, 4), (2, 3, 4), (3, 0, 4)),
}
# Tetrahedra into which volumes are cut to measure them.
_TETRAHEDRA: Mapping[str, tuple[tuple[int, ...], ...]] = {
    "tetra": ((0, 1, 2, 3),),
    "pyramid": ((0, 1, 2, 4), (0, 2, 3, 4)),
    "wedge": ((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5)),
    "hexahedron": ((0, 1, 3, 4), (1, 2, 3, 6), (1, 4, 5, 6), (3, 4, 6, 7), (1, 3, 4, 6)),
}
_FLAT, _SOLID = ("triangle", "quad"), tuple(_TETRAHEDRA)
# Linear cells that others are cut into, at their nodes, by VTK's numbers of these.
_CUT: Mapping[str, tuple[str, tuple[tuple[int, ...], ...]]] = {
    "pixel": ("quad", ((0, 1, 3, 2),)),
    "voxel": ("hexahedron", ((0, 1, 3, 2, 4, 5, 7, 6),)),
    "triangle6": ("triangle", ((0, 3, 5), (3, 1, 4), (5, 4, 2), (3, 4, 5))),
    "quad8": ("triangle", ((0, 4, 7), (4, 1, 5), (5, 2, 6), (6, 3, 7), (4, 5, 6), (4, 6, 7))),
    "quad9": ("quad", ((0, 4, 8, 7), (4, 1, 5, 8), (8, 5, 2, 6), (7, 8, 6, 3))),
    "tetra10": (
        "tetra",
        (
            (0, 4, 6, 7),
            (4, 1, 5, 8),
            (6, 5, 2, 9),
            (7, 8, 9, 3),
            (6, 8, 4, 5),
            (6, 8, 5, 9),
            (6, 8, 9, 7),
            (6, 8, 7, 4),
        ),
    ),
}
KINDS = ("force", "flux", "mean")
_FORM = "force:pressure,shear@wall; flux:velocity@outlet; mean:temperature@chip"

CellsByType = Mapping[str, Int[np.ndarray, "F K"]]


class Integral(NamedTuple):
    """What is integrated: a `kind`, the fields that it takes, and the mark of the region, '' for all of it."""

    kind: str
    fields: tuple[str, ...]
    mark: str

    @property
    def name(self) -> str:
        """How it is spelled."""
        return f"{self.kind}:{','.join(self.fields)}" + (f"@{self.mark}" if self.mark else "")


@dataclass(frozen=True)
class Weights:
    """The sizes [N] of the points of a region, and their normals of that length [N, D], None of a region of volume."""

    sizes: Float[np.ndarray, " N"]
    normals: Float[np.ndarray, "N D"] | None


def parse_integrals(text: str) -> tuple[Integral, ...]:
    """Return the integrals that a text names; raises DataError for one that is not understood."""
    found = []
    for part in filter(None, (part.strip() for part in text.split(";"))):
        match = re.fullmatch(r"(\w+):([^@]+)(?:@(.+))?", part)
        fields = tuple(name.strip() for name in match[2].split(",")) if match else ()
        most = {"force": 2, "flux": 1, "mean": 1}.get(match[1] if match else "", 0)
        if not 0 < len(fields) <= most or not all(fields):
            raise DataError(
                f"data.integrals={text!r} is not understood at {part!r}; write KIND:FIELDS@MARK with a kind among "
                f"{', '.join(KINDS)}, several by semicolons: {_FORM}"
            )
        found.append(Integral(match[1], fields, (match[3] or "").strip()))
    return tuple(found)


def parse_reference(text: str) -> float:
    """Return the force that is a coefficient of 1, ½ density speed² area, 0 for ''; raises DataError."""
    if not text:
        return 0.0
    values = dict(re.findall(r"(\w+)\s*=\s*([-+\d.eE]+)", text))
    try:
        density, speed, area = (float(values.pop(name)) for name in ("density", "speed", "area"))
        force = density * speed**2 * area / 2
    except (KeyError, ValueError, OverflowError):
        force = 0.0
    if values or not 0 < force < np.inf:
        raise DataError(f"data.reference={text!r} is not understood; write density=1.2,speed=40,area=2.1")
    return force


def check_channels(integrals: Sequence[Integral], targets: Mapping[str, int], space: int) -> None:
    """Raise DataError unless the fields of all integrals are targets, vectors where these are needed."""
    for one in integrals:
        unknown = next((name for name in one.fields if name not in targets), None)
        if unknown is not None:
            raise DataError(
                f"data.integrals has {one.name!r}, but {unknown!r} is none of the targets {', '.join(targets)}"
            )
        wanted = {"force": (1, space), "flux": (space,), "mean": (targets[one.fields[0]],)}[one.kind]
        for name, width in zip(one.fields, wanted, strict=False):
            if targets[name] not in (width, 3 if width == space else width):
                raise DataError(
                    f"data.integrals has {one.name!r}, but {name!r} has {targets[name]} channels where {width} are "
                    "needed; name another field"
                )


def linear_cells(cells: CellsByType) -> CellsByType:
    """Return cells with those of grids, and some quadratic ones, as linear cells between their nodes."""
    found: dict[str, list[np.ndarray]] = {}
    for kind, numbers in cells.items():
        name, parts = _CUT.get(kind, (kind, None))
        found.setdefault(name, []).extend([numbers] if parts is None else [numbers[:, list(one)] for one in parts])
    return {name: np.concatenate(parts) for name, parts in found.items()}


def region_weights(
    integral: Integral, points: Float[np.ndarray, "N D"], cells: CellsByType, mark: Bool[np.ndarray, " N"], where: str
) -> Weights:
    """Return the weights of the region of an integral, the cells or boundary faces all corners of which are marked.

    Forces and fluxes are over a surface in space, or over the boundary of the cells, with normals out of these. Means
    are over the cells, or over their boundary where no whole cell is marked. Raises DataError where nothing is marked.
    """
    space = np.asarray(points, np.float64)
    top = _SOLID if any(kind in cells for kind in _SOLID) else _FLAT
    solid = {kind: np.asarray(numbers) for kind, numbers in cells.items() if kind in top and len(numbers)}
    if not solid or points.shape[1] < 2:
        raise DataError(
            f"{where} has no cells to integrate over (triangles to hexahedra, and quadratic triangles, quads and "
            "tetrahedra); store its mesh, or leave data.integrals out"
        )
    if integral.kind == "mean":
        weights = _measure(space, solid, mark)
        if weights.sizes.any():
            return weights
    # A surface in space that is no plane has its own normals; all other cells have a boundary.
    curved = top == _FLAT and space.shape[1] == 3 and is_curved(space)
    if curved:
        weights = _surface(space, solid, mark)
    else:
        # Of a plane mesh in space the boundary is a line in its plane.
        axes = np.sort(np.argsort(-np.ptp(space, axis=0), kind="stable")[: 2 if top == _FLAT else 3])
        weights = _boundary(space[:, axes], solid, mark)
        weights = Weights(weights.sizes, _in_space(weights.normals, axes, space.shape[1]))
    if not weights.sizes.any():
        raise DataError(
            f"{where} has no {'cells' if curved else 'boundary'} marked by {integral.mark!r}, which {integral.name!r} "
            "needs; mark all points of the region by values other than 0"
        )
    return weights


def integrate(
    integral: Integral, fields: Mapping[str, Float[np.ndarray, "N C"]], weights: Weights
) -> Float[np.ndarray, " _"]:
    """Return the integral: a force [D], a flux [1] or the mean of every channel [C].

    The pressure pushes along the normals out of the cells, that is onto what they surround; a shear adds its integral.
    """
    first = np.asarray(fields[integral.fields[0]], np.float64)
    if integral.kind == "mean":
        return weights.sizes @ first / weights.sizes.sum()
    if integral.kind == "flux":
        common = min(first.shape[1], weights.normals.shape[1])
        return np.array([np.sum(first[:, :common] * weights.normals[:, :common])])
    force = first[:, 0] @ weights.normals
    if len(integral.fields) > 1:
        shear = weights.sizes @ np.asarray(fields[integral.fields[1]], np.float64)
        common = min(len(shear), len(force))
        force[:common] += shear[:common]
    return force


def is_curved(points: Float[np.ndarray, "N 3"]) -> bool:
    """Return whether points are in no plane."""
    extents = np.linalg.svd(points - points.mean(0), compute_uv=False)
    return bool(extents[-1] > 1e-6 * extents[0])


def _measure(points: np.ndarray, cells: CellsByType, mark: np.ndarray) -> Weights:
    sizes = np.zeros(len(points))
    for kind, numbers in cells.items():
        chosen = numbers[mark[numbers].all(axis=1)]
        if kind in _TETRAHEDRA:
            parts = [chosen[:, list(corners)] for corners in _TETRAHEDRA[kind]]
            size = sum(np.abs(_triple(points[part])) for part in parts) / 6
        else:
            size = np.linalg.norm(_area_vectors(points, chosen), axis=1)
        np.add.at(sizes, chosen, np.repeat(size[:, None] / chosen.shape[1], chosen.shape[1], axis=1))
    return Weights(sizes, None)


def _triple(corners: Float[np.ndarray, "F 4 3"]) -> Float[np.ndarray, " F"]:
    edges = corners[:, 1:] - corners[:, :1]
    return np.einsum("fi,fi->f", edges[:, 0], np.cross(edges[:, 1], edges[:, 2]))


def _area_vectors(points: np.ndarray, faces: Int[np.ndarray, "F K"]) -> Float[np.ndarray, "F _"]:
    """Return normals as long as faces are large, [F, 3]; of lines in the plane [F, 2]."""
    corners = points[faces]
    if faces.shape[1] == 2:
        along = corners[:, 1] - corners[:, 0]
        return np.stack([along[:, 1], -along[:, 0]], axis=-1)
    corners = np.pad(corners, [(0, 0), (0, 0), (0, 3 - corners.shape[2])])
    last = corners[:, 3] - corners[:, 1] if faces.shape[1] == 4 else corners[:, 2] - corners[:, 1]
    return np.cross(corners[:, 2] - corners[:, 0], last) / 2 if faces.shape[1] == 4 else _triangle(corners)


def _triangle(corners: np.ndarray) -> np.ndarray:
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) / 2


def _surface(points: np.ndarray, cells: CellsByType, mark: np.ndarray) -> Weights:
    """Return the weights of a surface in space, with normals into what it encloses, as out of a flow around it."""
    normals = {kind: _area_vectors(points, numbers) for kind, numbers in cells.items()}
    centre = points.mean(0)
    volume = sum(np.sum((points[cells[kind]].mean(1) - centre) * normals[kind]) for kind in cells)
    parts = [(numbers, -np.sign(volume or 1.0) * normals[kind]) for kind, numbers in cells.items()]
    return _gathered(points, parts, mark)


def _boundary(points: np.ndarray, cells: CellsByType, mark: np.ndarray) -> Weights:
    """Return the weights of the faces that belong to one cell alone, with normals out of it."""
    faces: dict[int, list[np.ndarray]] = {}
    centres: dict[int, list[np.ndarray]] = {}
    for kind, numbers in cells.items():
        middle = points[numbers].mean(1)
        for corners in _FACES[kind]:
            faces.setdefault(len(corners), []).append(numbers[:, list(corners)])
            centres.setdefault(len(corners), []).append(middle)
    parts = []
    for size, found in faces.items():
        every, middles = np.concatenate(found), np.concatenate(centres[size])
        _, first, count = np.unique(np.sort(every, axis=1), axis=0, return_index=True, return_counts=True)
        outer, middle = every[first[count == 1]], middles[first[count == 1]]
        normals = _area_vectors(points, outer)
        outwards = np.einsum("fi,fi->f", normals, points[outer].mean(1) - middle)
        parts.append((outer, normals * np.where(outwards < 0, -1.0, 1.0)[:, None]))
    return _gathered(points, parts, mark)


def _in_space(normals: np.ndarray, axes: np.ndarray, space: int) -> np.ndarray:
    found = np.zeros((len(normals), space))
    found[:, axes] = normals
    return found


def _gathered(points: np.ndarray, parts: Sequence[tuple[np.ndarray, np.ndarray]], mark: np.ndarray) -> Weights:
    normals, sizes = np.zeros(points.shape), np.zeros(len(points))
    for faces, vectors in parts:
        chosen = mark[faces].all(axis=1)
        corners, share = faces[chosen], 1 / faces.shape[1]
        for column in corners.T:
            np.add.at(normals, column, share * vectors[chosen])
            np.add.at(sizes, column, share * np.linalg.norm(vectors[chosen], axis=1))
    return Weights(sizes, normals)

"""Integrals of fields at the centres of cells, as finite-volume programs take them: every cell has one value.

A mean weighs cells by their sizes. A force or a flux takes at every face of the boundary the value of its cell.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from data_pipeline.custom.integrals import Integral, Weights, is_curved
from data_pipeline.errors import DataError
from data_pipeline.vtk_faces import MainCells


class _Boundary(NamedTuple):
    """Faces as vectors [K, 3] out of their cells, the numbers of these, and which faces are marked."""

    vectors: Float[np.ndarray, "K 3"]
    owners: Int[np.ndarray, " K"]
    marked: Bool[np.ndarray, " K"]


@dataclass(frozen=True)
class Mark:
    """What a region is marked by: main cells [F], or points [N] of the mesh, all of which a cell or a face then has."""

    cells: Bool[np.ndarray, " F"]
    points: Bool[np.ndarray, " N"]


@dataclass(frozen=True)
class CellRegions:
    """Points [N, 3] and main cells of a mesh with fields at the centres of these, and by its name every mark."""

    wanted: Sequence[Integral]
    places: Float[np.ndarray, "N 3"]
    main: MainCells
    marks: Mapping[str, Mark]
    where: str

    def weights(self) -> tuple[Weights, ...]:
        """Return the weights of every integral at the cells; raises DataError where nothing is marked."""
        return tuple(self._weights(one, self.marks[one.mark]) for one in self.wanted)

    def _weights(self, integral: Integral, mark: Mark) -> Weights:
        main = self.main
        if integral.kind == "mean":
            sizes = main.sizes * (mark.cells | main.corners.all_of(mark.points))
            if sizes.any():
                return Weights(sizes, None)
        if main.dimension < 2:
            raise DataError(
                f"{self.where} has cells of {main.dimension} dimensions, whose boundary has no size, which "
                f"{integral.name!r} needs; take it out of data.integrals"
            )
        vectors, owners, marked = self._boundary(mark)
        normals, sizes = np.zeros((len(main.sizes), 3)), np.zeros(len(main.sizes))
        np.add.at(normals, owners[marked], vectors[marked])
        np.add.at(sizes, owners[marked], np.linalg.norm(vectors[marked], axis=1))
        if not sizes.any():
            raise DataError(
                f"{self.where} has no boundary marked by {integral.mark!r}, which {integral.name!r} needs; mark its "
                "cells, or all points of the region, by values other than 0"
            )
        return Weights(sizes, normals)

    def _boundary(self, mark: Mark) -> _Boundary:
        faces, places = self.main.faces, self.places
        if self.main.dimension == 2 and not is_curved(places[np.unique(faces.points)]):
            return self._edges(mark)
        vectors, middles = faces.area_vectors(places), faces.centres(places)
        marked = mark.cells[faces.owners] | faces.all_of(mark.points)
        if self.main.dimension == 3:
            return _Boundary(self._outwards(vectors, middles, faces.owners), faces.owners, marked)
        # A surface in space has its own normals, here into what it encloses, as out of a flow around it.
        volume = np.sum((middles - middles.mean(axis=0)) * vectors)
        return _Boundary(-np.sign(volume or 1.0) * vectors, faces.owners, marked)

    def _edges(self, mark: Mark) -> _Boundary:
        """Return the boundary of cells in a plane: the edges that one cell alone has."""
        places, (ends, owners) = self.places, self.main.faces.edges()
        _, first, count = np.unique(np.sort(ends, axis=1), axis=0, return_index=True, return_counts=True)
        ends, owners = ends[first[count == 1]], owners[first[count == 1]]
        across, along = np.sort(np.argsort(-np.ptp(places, axis=0), kind="stable")[:2])
        edges, vectors = places[ends[:, 1]] - places[ends[:, 0]], np.zeros((len(ends), 3))
        vectors[:, across], vectors[:, along] = edges[:, along], -edges[:, across]
        marked = mark.cells[owners] | mark.points[ends].all(axis=1)
        return _Boundary(self._outwards(vectors, places[ends].mean(axis=1), owners), owners, marked)

    def _outwards(self, vectors: np.ndarray, middles: np.ndarray, owners: np.ndarray) -> np.ndarray:
        inwards = np.einsum("kd,kd->k", vectors, middles - self.main.centres[owners]) < 0
        return vectors * np.where(inwards, -1.0, 1.0)[:, None]

"""Inputs of models of printed parts: surfaces are voxelised as the simulation does it, distances to them computed."""

from dataclasses import replace

import numpy as np

from data_pipeline import vtk
from data_pipeline.additive.inputs import DISTANCES, scaled_distances
from data_pipeline.additive.voxels import mesh_of_surface
from data_pipeline.custom.readers import Reference
from data_pipeline.custom.sample import MESH_POINTS, Contents, Fields
from experiments.errors import UserError
from experiments.predict.signature import Signature

# What the loaders of printed parts call the hexahedra in their files, and mesh files in arrays of their own.
_ELEMENTS = ("elems", "cells_hexahedron", "cells")


def is_surface_of_part(reference: Reference, reads: Fields) -> bool:
    """Return whether a sample is the surface of a part and the model, whose training read `reads`, is one of parts."""
    return reference.path.suffix.lower() == ".stl" and reads.cells == _ELEMENTS[0]


def voxelised(reference: Reference) -> Contents:
    """Return the mesh of hexahedra within the surface of a file; raises DataError."""
    points, elements = mesh_of_surface(reference.path)
    arrays = {"pos": points, _ELEMENTS[0]: elements}
    print(f"{reference}: voxelised to {len(points)} nodes and {len(elements)} hexahedra")
    return Contents(arrays, tuple(arrays))


def with_distances(contents: Contents, signature: Signature, where: str) -> Contents:
    """Return the contents with the distance features of their nodes, if the model takes these and they are not there.

    Raises UserError for samples without hexahedra, and DataError where these are not the boxes of a lattice.
    """
    if DISTANCES not in signature.channels.inputs or DISTANCES in contents.arrays:
        return contents
    arrays = contents.arrays
    if contents.mesh is not None:
        elements = vtk.mesh_cells(contents.mesh).get("hexahedron")
    else:
        elements = next((arrays[name] for name in _ELEMENTS if name in arrays), None)
    points = next((arrays[name] for name in ("pos", MESH_POINTS) if name in arrays), None)
    if elements is None or points is None or elements.ndim != 2 or elements.shape[1] != 8:
        raise UserError(
            f"{where} has no hexahedra, to whose surface this model takes the distances; give the mesh of a part"
        )
    found = scaled_distances(points, np.asarray(elements, np.int64), where)
    return replace(contents, arrays={**arrays, DISTANCES: found}, present=(*contents.present, DISTANCES))

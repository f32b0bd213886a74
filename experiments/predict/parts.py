"""Surfaces of parts as inputs of models of printed parts: they are voxelised as the simulation does it."""

from data_pipeline.additive.voxels import mesh_of_surface
from data_pipeline.custom.readers import Reference
from data_pipeline.custom.sample import Contents, Fields

# What the loaders of printed parts call the hexahedra in their files.
_ELEMENTS = "elems"


def is_surface_of_part(reference: Reference, reads: Fields) -> bool:
    """Return whether a sample is the surface of a part and the model, whose training read `reads`, is one of parts."""
    return reference.path.suffix.lower() == ".stl" and reads.cells == _ELEMENTS


def voxelised(reference: Reference) -> Contents:
    """Return the mesh of hexahedra within the surface of a file; raises DataError."""
    points, elements = mesh_of_surface(reference.path)
    arrays = {"pos": points, _ELEMENTS: elements}
    print(f"{reference}: voxelised to {len(points)} nodes and {len(elements)} hexahedra")
    return Contents(arrays, tuple(arrays))

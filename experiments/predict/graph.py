"""The edges of a mesh to predict on, for models that send messages along them."""

import numpy as np
from jaxtyping import Float, Int

from data_pipeline import vtk
from data_pipeline.additive.messages import message_edges
from data_pipeline.custom.sample import Cells, Contents
from data_pipeline.graphs import edges_of_mesh
from experiments.errors import UserError


def edges_of(
    contents: Contents, cells: Cells, points: Float[np.ndarray, "N D"], rows: int, where: str
) -> Int[np.ndarray, "_ E"] | None:
    """Return the edges [2, E] of the cells of a sample, with 3 `rows` marked ones of hanging nodes too, of 0 None.

    Raises UserError for samples without cells, and for marked edges of other cells than hexahedra.
    """
    if not rows:
        return None
    blocks = dict(cells) if contents.mesh is None else vtk.mesh_cells(contents.mesh)
    if rows == 3:
        if "hexahedron" not in blocks:
            raise UserError(
                f"{where} has no hexahedra, along whose edges and at whose hanging nodes this model sends messages; "
                "give the mesh of a part"
            )
        return message_edges(points, blocks["hexahedron"], True, where)
    found = edges_of_mesh(blocks.items())
    if found is None:
        raise UserError(
            f"{where} has no triangles, quadrilaterals, tetrahedra or hexahedra, along whose edges this model sends "
            "messages; give a mesh"
        )
    return found

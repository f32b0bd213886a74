"""The edges along which models send messages in the mesh of a part."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from data_pipeline.additive.graph import hanging_edges
from data_pipeline.errors import DataError
from data_pipeline.files import check_shape, read_npz
from data_pipeline.graphs import by_target, edges_of_cells
from data_pipeline.numpy_files import open_npz


def message_edges(
    points: Float[np.ndarray, "N 3"], elements: Int[np.ndarray, "M 8"], hanging: bool, where: str
) -> Int[np.ndarray, "_ E"]:
    """Return the edges of hexahedra, rows source and target, by target, then by source.

    With `hanging` there are also edges between hanging nodes and the corners of the larger element that they lie on,
    and a third row is 1 for these. Raises DataError, naming `where`, for elements that are not the boxes of a lattice.
    """
    index = edges_of_cells("hexahedron", elements)
    if not hanging:
        return index
    try:
        extra = hanging_edges(points, elements)
    except DataError as error:
        raise DataError(
            f"{where}: its hanging nodes cannot be found ({error}); set data.hanging_edges=False to leave them alone"
        ) from error
    marks = np.repeat([0, 1], [index.shape[1], extra.shape[1]])
    joined = np.concatenate([np.concatenate([index, extra], axis=1), marks[None]])
    # Two nodes of one element edge stay joined once, by the edge of the element.
    _, first = np.unique(joined[0].astype(np.int64) * len(points) + joined[1], return_index=True)
    kept = joined[:, np.sort(first)]
    return kept[:, by_target(kept[:2])].astype(np.int32)


def read_elements(path: Path) -> tuple[Float[np.ndarray, "N 3"], Int[np.ndarray, "M 8"]]:
    """Return nodes in mm and elements of a part, numbered from 0; raises DataError."""
    points = read_npz(path, {"pos": (None, 3)})["pos"]
    with open_npz(path) as archive:
        if "elems" not in archive.files:
            raise DataError(f"{path} lacks the array elems, whose edges this model type needs; get the file again")
        elements = archive.read("elems")
    check_shape(elements, (None, 8), f"{path}[elems]")
    if elements.size and not 0 <= elements.min() <= elements.max() < len(points):
        raise DataError(
            f"{path}[elems] names nodes {elements.min()} to {elements.max()} of {len(points)}; number them from 0"
        )
    return points, elements.astype(np.int64)

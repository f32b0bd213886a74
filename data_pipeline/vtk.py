"""Meshes of every format as VTK data sets; this, `foreign_meshes`, `mesh_steps` and `vtk_checks` alone import pyvista.

VTK reads and writes its own formats, and reads CGNS and Exodus; meshio reads the others.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree

from data_pipeline import foreign_meshes, mesh_steps
from data_pipeline.errors import DataError
from data_pipeline.vtk_checks import PARTS_SUFFIXES, check_corners, check_counts, check_links, need_pyvista, vtk_errors

if TYPE_CHECKING:
    from pyvista import DataSet

# Formats of VTK in which fields are written too, and those of several parts and of other programs, which are only read.
VTK_SUFFIXES = (".vtu", ".vtk", ".vtp", ".vti", ".vtr", ".vts")
_READ_SUFFIXES = (*PARTS_SUFFIXES, *mesh_steps.SUFFIXES)
# Of VTK's readers for formats that meshio reads, those that no damaged file has made crash.
_VTK_READS_TOO = (".obj", ".stl")
MESH_SUFFIXES = (*VTK_SUFFIXES, *_READ_SUFFIXES, *foreign_meshes.SUFFIXES)
WRITTEN_SUFFIXES = (*VTK_SUFFIXES, *foreign_meshes.WRITTEN_SUFFIXES)

# The type of mesh that a format is for; the others hold all.
_TYPES = {".vtp": "PolyData", ".vti": "ImageData", ".vtr": "RectilinearGrid", ".vts": "StructuredGrid"}

# VTK's numbers of the cell types by the names that meshio gives them.
CELL_TYPES = {
    **{"vertex": 1, "line": 3, "triangle": 5, "polygon": 7, "pixel": 8, "quad": 9, "tetra": 10, "voxel": 11},
    **{"hexahedron": 12, "wedge": 13, "pyramid": 14, "penta_prism": 15, "hexa_prism": 16, "line3": 21},
    **{"triangle6": 22, "quad8": 23, "tetra10": 24, "hexahedron20": 25, "wedge15": 26, "pyramid13": 27, "quad9": 28},
    **{"hexahedron27": 29, "quad6": 30, "wedge12": 31, "wedge18": 32, "hexahedron24": 33, "triangle7": 34, "line4": 35},
}
_POLYHEDRON = 42
_NAMES = {number: name for name, number in CELL_TYPES.items()}


def read_mesh(path: Path, step: int | None = None) -> "DataSet":
    """Return the mesh in a file, of several steps the one that `step` numbers; blocks become one with a field `block`.

    Raises DataError.
    """
    pyvista = need_pyvista(path)
    if not path.is_file():
        raise DataError(f"{path} does not exist; check the path")
    with vtk_errors(path, "read as a mesh", "get the file again"):
        check_links(path)
        mesh = _read_foreign(path, step) if path.suffix.lower() in foreign_meshes.SUFFIXES else None
        if mesh is None:
            check_counts(path)
            stepped = path.suffix.lower() in mesh_steps.SUFFIXES
            mesh = _joined(mesh_steps.read(path, step) if stepped else pyvista.read(path))
        check_corners(mesh, path)
    if not mesh.n_points:
        raise DataError(f"{path} cannot be read as a mesh (it holds no points); get the file again")
    return mesh


def write_mesh(path: Path, mesh: "DataSet") -> None:
    """Write a mesh in the format of the name's suffix; raises DataError if that holds no mesh of its type."""
    need_pyvista(path)
    suffix = path.suffix.lower()
    with vtk_errors(path, "written", "choose a name that ends in .vtu"):
        if suffix in foreign_meshes.WRITTEN_SUFFIXES:
            foreign_meshes.write(path, mesh)
        else:
            (mesh.cast_to_unstructured_grid() if suffix == ".vtu" else mesh).save(path)


def check_holds(path: Path, mesh: "DataSet | None") -> None:
    """Raise DataError if VTK's format of the name's suffix holds no mesh of this type, None being a cloud or cells."""
    wanted = _TYPES.get(path.suffix.lower())
    found = "UnstructuredGrid" if mesh is None else type(mesh).__name__
    if wanted not in (None, found):
        raise DataError(f"{path} would hold a mesh of VTK's type {wanted}, but it is one of {found}; write a .vtu file")


def make_mesh(
    points: Float[np.ndarray, "N D"], cells: Sequence[tuple[str, Int[np.ndarray, "F K"]]], where: str
) -> "DataSet":
    """Return the mesh of points in up to three dimensions and blocks of cells of one type; `where` is for messages.

    Without cells some programs show nothing, so that a cloud gets one vertex per point.
    """
    pyvista = need_pyvista(where)
    spatial = np.pad(points, [(0, 0), (0, 3 - points.shape[1])])
    blocks = cells or [("vertex", np.arange(len(points))[:, None])]
    types = np.concatenate([np.full(len(numbers), _cell_type(name, where)) for name, numbers in blocks])
    sized = [np.insert(numbers, 0, numbers.shape[1], axis=1).ravel() for _, numbers in blocks]
    return pyvista.UnstructuredGrid(np.concatenate(sized), types.astype(np.uint8), spatial)


def mesh_cells(mesh: "DataSet") -> dict[str, Int[np.ndarray, "F K"]]:
    """Return the cells of a mesh by type; polygons and polyhedra, which have no one number of points, are left out."""
    grid = mesh.cast_to_unstructured_grid()
    cells, offsets = grid.cell_connectivity, need_pyvista("").convert_array(grid.GetCells().GetOffsetsArray())
    found = {}
    for number in np.unique(grid.celltypes):
        chosen = np.flatnonzero(grid.celltypes == number)
        sizes = offsets[chosen + 1] - offsets[chosen]
        if number in _NAMES and number != CELL_TYPES["polygon"] and sizes.min() == sizes.max():
            found[_NAMES[number]] = cells[offsets[chosen][:, None] + np.arange(sizes[0])]
    return found


def cells_within(
    surface: "DataSet", first: Float[np.ndarray, " 3"], size: Float[np.ndarray, " 3"], shape: Int[np.ndarray, " 3"]
) -> Bool[np.ndarray, "X Y Z"]:
    """Return which cells of a regular grid have their centres within a closed surface.

    `first` is the centre of the first cell, `size` that of all cells and `shape` how many there are along each axis.
    """
    pyvista = need_pyvista("a grid in a surface")
    from vtkmodules.vtkImagingStencil import vtkImageStencilToImage, vtkPolyDataToImageStencil

    stencil = vtkPolyDataToImageStencil()
    stencil.SetInputData(surface)
    stencil.SetOutputOrigin(*first)
    stencil.SetOutputSpacing(*size)
    stencil.SetOutputWholeExtent(0, int(shape[0]) - 1, 0, int(shape[1]) - 1, 0, int(shape[2]) - 1)
    image = vtkImageStencilToImage()
    image.SetInputConnection(stencil.GetOutputPort())
    image.SetInsideValue(1)
    image.SetOutsideValue(0)
    image.SetOutputScalarTypeToUnsignedChar()
    image.Update()
    values = pyvista.convert_array(image.GetOutput().GetPointData().GetScalars())
    return values.reshape(shape[::-1]).transpose(2, 1, 0) > 0


def surface_triangles(mesh: "DataSet") -> Int[np.ndarray, "F 3"]:
    """Return the triangles of the surface of a mesh as numbers of its points; quadratic faces are cut at all nodes."""
    bare = mesh.copy(deep=False)
    bare.clear_data()
    options = {"nonlinear_subdivision": 1, "pass_pointid": False, "pass_cellid": False, "algorithm": "dataset_surface"}
    surface = bare.extract_surface(**options).triangulate()
    # Found by their places: the numbers that VTK passes on are wrong for the nodes within quadratic faces.
    triangles = np.asarray(surface.regular_faces, int).reshape(-1, 3)
    distance, numbers = KDTree(mesh.points).query(surface.points)
    return numbers[triangles][(distance[triangles] == 0).all(axis=1)]


def surface_of_cells(
    mesh: "DataSet",
) -> tuple[Float[np.ndarray, "P 3"], Int[np.ndarray, "F 3"], Int[np.ndarray, " F"]]:
    """Return points, triangles of the surface of the main cells, and which of these each triangle belongs to."""
    grid = mesh.cast_to_unstructured_grid().extract_cells(main_cells(mesh))
    grid.clear_data()
    options = {"nonlinear_subdivision": 1, "pass_pointid": False, "pass_cellid": True, "algorithm": "dataset_surface"}
    surface = grid.extract_surface(**options).triangulate()
    cells = np.asarray(surface.cell_data["vtkOriginalCellIds"], int)
    return np.asarray(surface.points), np.asarray(surface.regular_faces, int).reshape(-1, 3), cells


def fields_at_nodes(mesh: "DataSet") -> dict[str, np.ndarray]:
    """Return what a mesh has at its cells, averaged to its points [N, ...] over the cells that have it."""
    numbers = _with_numbers(mesh)
    partial = {}
    for name in list(numbers.cell_data.keys()):
        values = np.asarray(numbers.cell_data[name])
        if np.isnan(values).any():
            partial[name] = f"{name} is known"
            numbers.cell_data[name], numbers.cell_data[partial[name]] = np.nan_to_num(values), ~np.isnan(values) + 0.0
    averaged = numbers.cell_data_to_point_data(pass_cell_data=False).point_data
    fields = {name: np.asarray(averaged[name]) for name in mesh.cell_data if name in averaged}
    with np.errstate(invalid="ignore"):
        return fields | {name: fields[name] / np.asarray(averaged[share]) for name, share in partial.items()}


def main_cells(mesh: "DataSet") -> Bool[np.ndarray, " F"]:
    """Return which cells are of the highest dimension in a mesh: volumes and not the triangles around them."""
    grid = mesh.cast_to_unstructured_grid()
    kinds, which = np.unique(grid.celltypes, return_inverse=True)
    dimensions = np.array([need_pyvista("").CellType(int(kind)).dimension for kind in kinds])[which]
    return dimensions == dimensions.max()


def fields_at_centres(mesh: "DataSet") -> tuple[Float[np.ndarray, "F 3"], dict[str, np.ndarray]]:
    """Return the centres of the main cells and the fields there: those of the cells, and others averaged to them."""
    chosen, numbers = main_cells(mesh), _with_numbers(mesh)
    averaged = numbers.point_data_to_cell_data(pass_point_data=False)
    names = (*numbers.point_data.keys(), *numbers.cell_data.keys())
    fields = {name: np.asarray(averaged.cell_data[name])[chosen] for name in names}
    return cell_centres(mesh)[chosen], fields


def cell_centres(mesh: "DataSet") -> Float[np.ndarray, "F 3"]:
    """Return the centres of all cells; of polyhedra, where VTK's may lie outside, the means of their corners."""
    centres = np.array(mesh.cell_centers().points)
    grid = mesh.cast_to_unstructured_grid()
    solid = np.flatnonzero(grid.celltypes == _POLYHEDRON)
    if len(solid):
        offsets = np.asarray(need_pyvista("").convert_array(grid.GetCells().GetOffsetsArray()))
        sums = np.add.reduceat(np.asarray(grid.points)[grid.cell_connectivity], offsets[:-1])
        centres[solid] = (sums / np.diff(offsets)[:, None])[solid]
    return centres


def _with_numbers(mesh: "DataSet") -> "DataSet":
    """Return a mesh with its fields of numbers alone, as floats: averages of integers would be integers."""
    copy = mesh.copy(deep=False)
    for fields in (copy.point_data, copy.cell_data):
        for name in list(fields.keys()):
            array = np.asarray(fields[name])
            if array.dtype.kind in "fbiu":
                fields[name] = array.astype(np.result_type(array.dtype, np.float32))
            else:
                del fields[name]
    return copy


def read_quad_surface(path: Path) -> tuple[Float[np.ndarray, "N 3"], Int[np.ndarray, "F 4"]]:
    """Return the points and the quadrilaterals of a VTK file; raises DataError where there are none."""
    mesh = read_mesh(path)
    quads = mesh_cells(mesh).get("quad")
    if quads is None:
        raise DataError(f"{path} holds no quadrilaterals; check that it is the surface mesh of a car")
    return np.asarray(mesh.points), quads


def _read_foreign(path: Path, step: int | None) -> "DataSet | None":
    """Return the mesh that meshio reads, or None where it cannot and VTK may be able to."""
    try:
        return foreign_meshes.read(path) if step is None else foreign_meshes.read_step(path, step)
    except DataError:
        if path.suffix.lower() not in _VTK_READS_TOO:
            raise
        return None


def _joined(content: Any) -> "DataSet":
    """Return a data set as it is, and the blocks of several as one."""
    pyvista = need_pyvista("")
    if not isinstance(content, pyvista.MultiBlock):
        return pyvista.PolyData() if content is None else content
    blocks = [block for block in content.recursive_iterator(skip_none=True) if block.n_points]
    if len(blocks) < 2:
        return blocks[0] if blocks else pyvista.PolyData()
    grids = [block.cast_to_unstructured_grid() for block in blocks]
    for kind in ("point_data", "cell_data"):
        _fill_missing([getattr(grid, kind) for grid in grids])
    return pyvista.MultiBlock(grids).combine(merge_points=False)


def _fill_missing(parts: Sequence[Any]) -> None:
    """Number the blocks, and give every block the fields of the others, which joining would drop, as NaN."""
    widths = {name: part[name].shape[1:] for part in parts for name in part if part[name].dtype.kind in "fbiu"}
    for number, part in enumerate(parts):
        size = part.valid_array_len
        for name, shape in widths.items():
            if name not in part:
                part[name] = np.full((size, *shape), np.nan)
        part["block"] = np.full(size, float(number))


def _cell_type(name: str, where: str) -> int:
    if name not in CELL_TYPES:
        raise DataError(f"{where} has cells of type {name!r}, which is none of {', '.join(CELL_TYPES)}; rename them")
    return CELL_TYPES[name]

"""What is checked of a mesh file before and after VTK reads it, and VTK's errors as one sentence."""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from data_pipeline import foreign_meshes, hdf5
from data_pipeline.errors import DataError
from data_pipeline.sizes import MOST_COMPRESSION

if TYPE_CHECKING:
    from pyvista import DataSet

# Formats of VTK that name other files.
PARTS_SUFFIXES = (".vtm", ".vtmb", ".pvtu", ".pvtp", ".pvti", ".pvtr", ".pvts")
_PART = re.compile(rb"\b(?:file|Source)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')", re.IGNORECASE)

# What headers say of the memory that a reader will ask for; VTK ends the program where it does not get it.
_COUNT = re.compile(
    rb"(?:NumberOf\w+|RangeMax)=[\"'](\d+)"
    rb"|^\s*(?:POINTS|VERTICES|LINES|POLYGONS|CELLS|CELL_TYPES|POINT_DATA|CELL_DATA)\s+(\d+)",
    re.MULTILINE,
)
_EXTENT = re.compile(rb"(?:Extent=[\"']|^\s*DIMENSIONS\s)\s*([-\d \t]+)", re.MULTILINE)
_HEAD_BYTES = 1 << 20


def check_counts(path: Path) -> None:
    """Raise DataError where a header announces more than a file of this size can hold."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    counts = [int(number) for match in _COUNT.finditer(head) for number in match.groups() if number]
    for match in _EXTENT.finditer(head):
        numbers = np.array(match[1].split(), float)
        sides = numbers if len(numbers) == 3 else numbers[1::2] - numbers[: len(numbers) // 2 * 2 : 2] + 1
        counts.append(float(np.prod(np.maximum(sides, 1))))
    if counts and max(counts) > MOST_COMPRESSION * size:
        raise DataError(
            f"{path} cannot be read as a mesh (it announces {max(counts):.4g} values in {size} bytes); get the file "
            "again"
        )


def check_links(path: Path) -> None:
    """Raise DataError where a file has parts in other folders, or, in a format that is HDF5, in any other file."""
    if h5py.is_hdf5(path):
        with hdf5.open_hdf5(path) as file:
            hdf5.check_inside(file)
    if path.suffix.lower() in PARTS_SUFFIXES:
        names = [(first or second).decode(errors="replace") for first, second in _PART.findall(path.read_bytes())]
        outside = [name for name in names if Path(name).is_absolute() or ".." in Path(name).parts]
        if outside:
            raise DataError(f"{path} has a part {outside[0]!r} outside of its folder; put it there")


def check_corners(mesh: "DataSet", path: Path) -> None:
    """Raise DataError where cells name points that are not there, which VTK would read from other memory."""
    pyvista = need_pyvista(path)
    if isinstance(mesh, pyvista.PolyData):
        arrays = (mesh.GetVerts(), mesh.GetLines(), mesh.GetPolys(), mesh.GetStrips())
    else:
        arrays = (mesh.GetCells(),) if isinstance(mesh, pyvista.UnstructuredGrid) else ()
    for cells in arrays:
        corners = pyvista.convert_array(cells.GetConnectivityArray())
        if corners.size and not (corners.min() >= 0 and corners.max() < mesh.n_points):
            raise DataError(
                f"{path} cannot be read as a mesh (its cells name points {corners.min()} to {corners.max()}, but there "
                f"are {mesh.n_points}, numbered from 0); get the file again"
            )


@contextmanager
def vtk_errors(path: Path, what: str, remedy: str) -> Iterator[None]:
    """Turn what VTK prints, and what else goes wrong with a file, into a DataError of one sentence."""
    pyvista = need_pyvista(path)
    catcher = pyvista.VtkErrorCatcher(raise_errors=True, send_to_logging=False)
    level = logging.root.manager.disable
    try:
        # pyvista logs what a reader reports, and warns where it goes on with what it got, which may be half of a field.
        logging.disable(logging.CRITICAL)
        with warnings.catch_warnings(), pyvista.vtk_verbosity("off"), catcher:
            warnings.filterwarnings("ignore")
            warnings.filterwarnings("error", message="The VTK reader")
            yield
    except DataError:
        raise
    # Parsers raise what they meet in damaged files, and meshio ends the program.
    except (Exception, SystemExit) as error:
        raise DataError(f"{path} cannot be {what}{foreign_meshes.bracketed(error)}; {remedy}") from error
    finally:
        logging.disable(level)


def need_pyvista(where: Any) -> ModuleType:
    try:
        import pyvista
    except ImportError as error:
        raise DataError(f"{where} needs pyvista; run `pip install 'flare_jax[viz]'`") from error
    return pyvista

"""The one place that imports meshio."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from data_pipeline.errors import DataError
from data_pipeline.xdmf import check_data_files


@dataclass(frozen=True)
class MeshFile:
    """A mesh with fields at its points [N, ...]; `cells` are blocks of a VTK cell type and point numbers [F, K]."""

    points: Float[np.ndarray, "N 3"]
    cells: tuple[tuple[str, Int[np.ndarray, "F K"]], ...] = ()
    fields: Mapping[str, np.ndarray] = field(default_factory=dict)
    cell_fields: tuple[str, ...] = ()


def read_quad_surface(path: Path) -> tuple[Float[np.ndarray, "N 3"], Int[np.ndarray, "F 4"]]:
    """Return the points and the quadrilaterals of a VTK file; raises DataError where there are none."""
    mesh = _read(path)
    quads = [block.data for block in mesh.cells if block.type == "quad"]
    if not quads:
        raise DataError(f"{path} holds no quadrilaterals; check that it is the surface mesh of a car")
    return np.asarray(mesh.points), np.concatenate(quads)


def read_mesh(path: Path) -> MeshFile:
    """Return the points, cells and point fields of a mesh in any format that meshio reads; raises DataError."""
    mesh = _read(path)
    # Polyhedra, whose cells are lists, have no rectangular arrays of point numbers.
    cells = tuple((block.type, block.data) for block in mesh.cells if isinstance(block.data, np.ndarray))
    return MeshFile(np.asarray(mesh.points), cells, dict(mesh.point_data), tuple(mesh.cell_data))


def write_mesh(path: Path, mesh: MeshFile) -> None:
    """Write a mesh in the format of the name's suffix; raises DataError if meshio cannot."""
    meshio = _meshio(path)
    # Without cells some readers show nothing, so that a cloud gets one vertex per point.
    cells = list(mesh.cells) or [("vertex", np.arange(len(mesh.points))[:, None])]
    try:
        meshio.Mesh(mesh.points, cells, point_data=dict(mesh.fields)).write(path)
    except (Exception, SystemExit) as error:
        raise DataError(f"{path} cannot be written by meshio ({error}); choose another suffix, such as .vtu") from error


def _read(path: Path) -> Any:
    meshio = _meshio(path)
    if not path.is_file():
        raise DataError(f"{path} does not exist; check the path")
    if path.suffix.lower() == ".xdmf":
        check_data_files(path)
    reason: BaseException | None = None
    # meshio.read would print why a format does not fit and end the program.
    for kind in meshio.extension_to_filetypes.get(path.suffix.lower(), ()):
        try:
            return getattr(meshio, kind.replace("-", "_")).read(str(path))
        except meshio.ReadError as error:
            reason = error
        # Parsers raise what they meet in damaged files.
        except (Exception, SystemExit) as error:
            reason = error
            break
    raise DataError(f"{path} cannot be read as a mesh{_bracketed(reason)}; get the file again") from reason


def _bracketed(reason: BaseException | None) -> str:
    """Return the first line of an error's text in brackets, nothing where it has none."""
    lines = [] if reason is None or isinstance(reason, SystemExit) else str(reason).split("\n")
    text = lines[0].strip().rstrip(".") if lines else ""
    return f" ({text})" if text else ""


def _meshio(path: Path) -> ModuleType:
    try:
        import meshio
    except ImportError as error:
        raise DataError(f"{path} needs meshio; run `pip install 'flare_jax[viz]'`") from error
    return meshio

"""Truth, prediction and error of parts as .vtu files, and of series as .pvd collections of them, for ParaView."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
from jaxtyping import Bool, Float, Int

from data_pipeline import vtk
from data_pipeline.dataset import PDEDataset
from runtime.files import replacing, write_text


def point_data(
    dataset: PDEDataset, truth: Float[np.ndarray, "N C"], prediction: Float[np.ndarray, "N C"]
) -> dict[str, np.ndarray]:
    """Return truth, prediction and error of every field in its own unit, and all of them in those of training."""
    true, predicted = (dataset.channels.split(values + dataset.offset) for values in (truth, prediction))
    arrays = {}
    for name, values in true.items():
        arrays[name] = _column(values)
        arrays[f"{name}_predicted"] = _column(predicted[name])
        arrays[f"{name}_error"] = _column(predicted[name] - values)
    # As in the original, truth minus prediction.
    normalized = {"target": truth, "pred": prediction, "error": truth - prediction}
    return arrays | {f"{name}_normalized": _column(values) for name, values in normalized.items()}


def write_part(
    path: Path, points: Float[np.ndarray, "N 3"], elements: Int[np.ndarray, "M 8"], arrays: Mapping[str, np.ndarray]
) -> None:
    """Write hexahedra with fields at their nodes, whole or not at all; raises DataError where pyvista is missing."""
    mesh = vtk.make_mesh(points.astype(np.float32), [("hexahedron", elements)], str(path))
    for name, values in arrays.items():
        mesh.point_data[name] = values.astype(np.uint8 if values.dtype == bool else np.float32)
    with replacing(path) as temporary:
        vtk.write_mesh(temporary, mesh)


def write_series(
    path: Path,
    points: Float[np.ndarray, "N 3"],
    elements: Int[np.ndarray, "M 8"],
    there: Bool[np.ndarray, "T N"],
    arrays: Sequence[Mapping[str, np.ndarray]],
) -> None:
    """Write a .pvd file and a folder beside it with the part at every step, as far as it is built."""
    folder, digits = path.with_suffix(""), len(str(len(arrays) - 1))
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for step, (built, fields) in enumerate(zip(there, arrays, strict=True)):
        name = f"data{step:0{max(2, digits)}d}.vtu"
        write_part(folder / name, points, elements[built[elements].all(axis=1)], {**fields, "mask": built})
        entries.append(f'    <DataSet timestep="{step}" part="0" file={quoteattr(f"{folder.name}/{name}")}/>\n')
    write_text(
        path,
        '<?xml version="1.0"?>\n<VTKFile type="Collection" version="0.1" byte_order="LittleEndian">\n  <Collection>\n'
        + "".join(entries)
        + "  </Collection>\n</VTKFile>\n",
    )


def _column(values: np.ndarray) -> np.ndarray:
    return values[:, 0] if values.shape[1] == 1 else values

"""Mesh files that hold several steps: Exodus and VTK's HDF as VTK writes them, and CGNS as its standard lays it out."""

import h5py
import numpy as np
import pytest

from data_pipeline.custom.folder import find_samples
from data_pipeline.custom.proposal import propose, samples_at
from data_pipeline.custom.readers import read_contents, read_sample
from data_pipeline.custom.sample import parse_fields
from data_pipeline.errors import DataError
from data_pipeline.mesh_steps import is_temporal, times_of
from data_pipeline.vtk import read_mesh

pv = pytest.importorskip("pyvista")
TIMES = [0.0, 0.5, 2.0]


def _steps(times):
    """Return a VTK source of a mesh whose temperature and displacement are its time."""
    from vtkmodules.util.vtkAlgorithm import VTKPythonAlgorithmBase
    from vtkmodules.vtkCommonDataModel import vtkDataObject
    from vtkmodules.vtkCommonExecutionModel import vtkStreamingDemandDrivenPipeline as Pipeline

    class Steps(VTKPythonAlgorithmBase):
        def __init__(self):
            super().__init__(nInputPorts=0, nOutputPorts=1, outputType="vtkUnstructuredGrid")

        def RequestInformation(self, request, inputs, outputs):
            facts = outputs.GetInformationObject(0)
            facts.Set(Pipeline.TIME_STEPS(), times, len(times))
            facts.Set(Pipeline.TIME_RANGE(), [times[0], times[-1]], 2)
            return 1

        def RequestData(self, request, inputs, outputs):
            facts = outputs.GetInformationObject(0)
            time = facts.Get(Pipeline.UPDATE_TIME_STEP()) if facts.Has(Pipeline.UPDATE_TIME_STEP()) else times[0]
            grid = pv.ImageData(dimensions=(3, 2, 2)).cast_to_unstructured_grid()
            grid.point_data["temperature"] = np.full(grid.n_points, time)
            grid.point_data["displacement"] = np.full((grid.n_points, 3), time)
            grid.GetInformation().Set(vtkDataObject.DATA_TIME_STEP(), time)
            facts.Get(vtkDataObject.DATA_OBJECT()).ShallowCopy(grid)
            return 1

    return Steps()


def write_steps(path, times):
    """Write a series into one file."""
    if path.suffix == ".exo":
        from vtkmodules.vtkIOExodus import vtkExodusIIWriter

        writer = vtkExodusIIWriter()
        writer.WriteAllTimeStepsOn()
    else:
        from vtkmodules.vtkIOHDF import vtkHDFWriter

        writer = vtkHDFWriter()
        writer.SetWriteAllTimeSteps(True)
    source = _steps(times)
    writer.SetInputConnection(source.GetOutputPort())
    writer.SetFileName(str(path))
    writer.Write()


@pytest.mark.parametrize("suffix", [".exo", ".vtkhdf"])
def test_steps_of_a_file_are_samples(tmp_path, suffix):
    for number in range(2):
        write_steps(tmp_path / f"case_{number}{suffix}", TIMES)
    references = find_samples(tmp_path)[""]
    assert [one.name for one in references] == [f"case_{case}_000{step}" for case in range(2) for step in range(3)]
    fields = parse_fields("points", "time", "temperature")
    for reference, time in zip(references[3:], TIMES, strict=True):
        read = read_sample(reference, fields)
        assert len(read) == 12
        np.testing.assert_array_equal(read.inputs["time"], time)
        np.testing.assert_array_equal(read.targets["temperature"], time)
        # Not moved by the displacement, which a model may be asked to predict.
        np.testing.assert_array_equal(read.points.max(axis=0), [2, 1, 1])
    proposal, contents = propose(tmp_path, samples_at(tmp_path)[""][0])
    assert sorted(proposal.fields["targets"]) == ["displacement", "temperature"]  # though they are 0 at first
    assert contents.mesh.n_cells == 2


@pytest.mark.parametrize("suffix", [".exo", ".vtkhdf"])
def test_a_file_of_one_step_is_one_sample(tmp_path, suffix):
    write_steps(tmp_path / f"a{suffix}", [1.5])
    assert not is_temporal(tmp_path / f"a{suffix}")
    (reference,) = find_samples(tmp_path)[""]
    np.testing.assert_array_equal(read_contents(reference).arrays["temperature"], 1.5)
    (tmp_path / f"a{suffix}").write_bytes(b"no mesh")
    assert not is_temporal(tmp_path / f"a{suffix}")
    with pytest.raises(DataError, match="cannot be read as a mesh"):
        times_of(tmp_path / f"a{suffix}")


def _node(parent, name, label, kind="MT", data=None):
    """Add a node of CGNS to an HDF5 group."""
    group = parent.create_group(name)
    for key, text, width in (("name", name, 33), ("label", label, 33), ("type", kind, 3)):
        group.attrs.create(key, np.array(text.encode(), f"S{width}"), dtype=h5py.string_dtype("ascii", width))
    group.attrs["flags"] = np.array([1], np.int32)
    if data is not None:
        group.create_dataset(" data", data=np.array([ord(one) for one in data], np.int8) if kind == "C1" else data)
    return group


def write_cgns(path):
    """Write two zones of a structured grid, with a field at the nodes and one at the cells."""
    with h5py.File(path, "w") as file:
        for key, text, width in (
            ("name", "HDF5 MotherNode", 33),
            ("label", "Root Node of HDF5 File", 33),
            ("type", "MT", 3),
        ):
            file.attrs.create(key, np.array(text.encode(), f"S{width}"), dtype=h5py.string_dtype("ascii", width))
        for key, text in ((" format", "IEEE_LITTLE_32"), (" hdf5version", "HDF5 Version 1.8.17")):
            file.create_dataset(key, data=np.array([ord(one) for one in text.ljust(33, "\0")[:33]], np.int8))
        _node(file, "CGNSLibraryVersion", "CGNSLibraryVersion_t", "R4", np.array([3.3], np.float32))
        base = _node(file, "Base", "CGNSBase_t", "I4", np.array([3, 3], np.int32))
        for number in range(2):
            zone = _node(base, f"Zone{number}", "Zone_t", "I4", np.array([[3, 2, 2], [2, 1, 1], [0, 0, 0]], np.int32))
            _node(zone, "ZoneType", "ZoneType_t", "C1", "Structured")
            z, y, x = np.meshgrid([0.0, 1], [0.0, 1], [0.0, 1, 2], indexing="ij")
            grid = _node(zone, "GridCoordinates", "GridCoordinates_t")
            for name, values in (("CoordinateX", x + 2 * number), ("CoordinateY", y), ("CoordinateZ", z)):
                _node(grid, name, "DataArray_t", "R8", values)
            for name, place, shape in (("Pressure", "Vertex", (2, 2, 3)), ("Density", "CellCenter", (1, 1, 2))):
                solution = _node(zone, f"{name}Solution", "FlowSolution_t")
                _node(solution, "GridLocation", "GridLocation_t", "C1", place)
                values = 100 * number + np.arange(np.prod(shape), dtype=float).reshape(shape)
                _node(solution, name, "DataArray_t", "R8", values)


def test_zones_of_cgns_are_joined(tmp_path):
    write_cgns(tmp_path / "a.cgns")
    mesh = read_mesh(tmp_path / "a.cgns")
    assert (mesh.n_points, mesh.n_cells) == (24, 4)
    np.testing.assert_array_equal(np.sort(mesh.point_data["Pressure"]), [*range(12), *range(100, 112)])
    np.testing.assert_array_equal(mesh.cell_data["Density"], [0, 1, 100, 101])
    np.testing.assert_array_equal(mesh.point_data["block"], np.repeat([0, 1], 12))
    np.testing.assert_array_equal(mesh.points[:, 0].max(), 4)


def test_steps_of_cgns_are_samples(tmp_path):
    """By the pointers to the solution of every time."""
    write_cgns(tmp_path / "a.cgns")
    with h5py.File(tmp_path / "a.cgns", "a") as file:
        times = _node(file["Base"], "BaseIterativeData", "BaseIterativeData_t", "I4", np.array([3], np.int32))
        _node(times, "TimeValues", "DataArray_t", "R8", np.array(TIMES))
        for zone in (file["Base/Zone0"], file["Base/Zone1"]):
            for step in range(3):
                solution = _node(zone, f"Step{step}", "FlowSolution_t")
                _node(solution, "GridLocation", "GridLocation_t", "C1", "Vertex")
                _node(solution, "Heat", "DataArray_t", "R8", np.full((2, 2, 3), 10.0 * step))
            steps = _node(zone, "ZoneIterativeData", "ZoneIterativeData_t")
            pointers = "".join(f"Step{step}".ljust(32) for step in range(3))
            _node(steps, "FlowSolutionPointers", "DataArray_t", "C1")[" data"] = np.array(
                [ord(one) for one in pointers], np.int8
            ).reshape(3, 32)
    references = find_samples(tmp_path)[""]
    for step, reference in enumerate(references):
        read = read_sample(reference, parse_fields("points", "time", "Heat"))
        np.testing.assert_array_equal(read.inputs["time"], TIMES[step])
        np.testing.assert_array_equal(read.targets["Heat"], np.full((24, 1), 10.0 * step))
    assert len(references) == 3

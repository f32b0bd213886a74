"""Meshes of VTK's and of other programs' formats, as they come: every type of cells, arrays and compression."""

import sys

import numpy as np
import pytest

from data_pipeline import vtk
from data_pipeline.custom.folder import find_samples
from data_pipeline.custom.readers import Reference, read_contents, read_sample
from data_pipeline.custom.sample import parse_fields
from data_pipeline.custom.writers import write_contents, write_fields
from data_pipeline.errors import DataError
from tests.data_pipeline.custom.files import CELLS, sample

pv = pytest.importorskip("pyvista")
meshio = pytest.importorskip("meshio")


def _fields(mesh):
    """Give a mesh fields of all types at its points, its cells and as a whole."""
    count = mesh.n_points
    mesh.point_data["p"] = np.arange(count) + 0.5
    mesh.point_data["long"] = np.arange(count, dtype=np.int64)
    mesh.point_data["inside"] = np.arange(count) % 2 == 0
    mesh.point_data["S:Mises"] = np.arange(3.0 * count).reshape(-1, 3)
    mesh.cell_data["c"] = np.arange(mesh.n_cells)
    mesh.field_data["angle"] = np.array([0.25])
    return mesh


def _grid(dimensions=(3, 2, 2)):
    return pv.ImageData(dimensions=dimensions, origin=(1e6, 0, 0))


def _polyhedron():
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], float)
    faces = [4, 3, 0, 1, 2, 3, 0, 1, 3, 3, 0, 2, 3, 3, 1, 2, 3]
    return pv.UnstructuredGrid(np.array([len(faces), *faces]), [pv.CellType.POLYHEDRON], points)


def _quadratic():
    points = np.array([[0, 0, 0], [2, 0, 0], [0, 2, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], float)
    return pv.UnstructuredGrid({pv.CellType.QUADRATIC_TRIANGLE: np.arange(6)[None]}, points)


MESHES = {
    "a.vtu": lambda: _grid().cast_to_unstructured_grid(),
    "polyhedra.vtu": _polyhedron,
    "quadratic.vtu": _quadratic,
    "a.vtk": lambda: _grid().cast_to_unstructured_grid(),
    "surface.vtk": lambda: pv.Sphere(theta_resolution=4, phi_resolution=4),
    "a.vtp": lambda: pv.Sphere(theta_resolution=4, phi_resolution=4),
    "a.vti": _grid,
    "a.vtr": lambda: _grid().cast_to_rectilinear_grid(),
    "a.vts": lambda: _grid().cast_to_structured_grid(),
}


@pytest.mark.parametrize("name", MESHES)
def test_what_is_written_beside_keeps_the_rest(tmp_path, name):
    mesh = _fields(MESHES[name]())
    mesh.save(tmp_path / name)
    reference = Reference(tmp_path / name)
    fields = parse_fields("points", "angle,long", "S:Mises,p,inside", read_contents(reference).present)
    read = read_sample(reference, fields)
    np.testing.assert_allclose(read.points, mesh.points, rtol=1e-6)
    np.testing.assert_array_equal(read.targets["S:Mises"], np.arange(3.0 * mesh.n_points).reshape(-1, 3))
    np.testing.assert_array_equal(read.targets["inside"][:, 0], np.arange(mesh.n_points) % 2 == 0)
    np.testing.assert_array_equal(read.inputs["long"][:, 0], np.arange(mesh.n_points))
    np.testing.assert_array_equal(read.inputs["angle"], np.full((mesh.n_points, 1), 0.25))
    target = tmp_path / f"out{reference.path.suffix}"
    prediction = {"p_predicted": np.arange(mesh.n_points) * 2.0, "u_predicted": np.ones((mesh.n_points, 2))}
    write_contents(target, read_contents(reference), "points", (), prediction)
    back = pv.read(target)
    assert type(back) is type(mesh)
    assert back.points.dtype == mesh.points.dtype
    np.testing.assert_array_equal(back.points, mesh.points)
    for name in ("p", "long", "inside", "S:Mises"):
        np.testing.assert_array_equal(back.point_data[name], mesh.point_data[name])
    np.testing.assert_array_equal(back.cell_data["c"], mesh.cell_data["c"])
    np.testing.assert_array_equal(np.ravel(back.field_data["angle"]), [0.25])
    np.testing.assert_array_equal(back.point_data["p_predicted"], prediction["p_predicted"])
    np.testing.assert_array_equal(back.point_data["u_predicted"], [[1, 1, 0]] * mesh.n_points)
    np.testing.assert_array_equal(
        back.cast_to_unstructured_grid().celltypes, mesh.cast_to_unstructured_grid().celltypes
    )


@pytest.mark.parametrize("compressor", ["LZ4", "LZMA", "ZLib", "None"])
def test_compressions(tmp_path, compressor):
    from vtkmodules.vtkIOXML import vtkXMLUnstructuredGridWriter

    mesh = _fields(_grid().cast_to_unstructured_grid())
    writer = vtkXMLUnstructuredGridWriter()
    writer.SetInputData(mesh)
    writer.SetFileName(str(tmp_path / "a.vtu"))
    getattr(writer, f"SetCompressorTypeTo{compressor}")()
    writer.Write()
    read = vtk.read_mesh(tmp_path / "a.vtu")
    np.testing.assert_array_equal(read.point_data["S:Mises"], mesh.point_data["S:Mises"])


@pytest.mark.parametrize("suffix", [".stl", ".ply", ".obj", ".off", ".inp", ".msh", ".med", ".mesh", ".xdmf"])
def test_formats_of_other_programs(tmp_path, suffix):
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0.5]])
    meshio.Mesh(points, [("triangle", CELLS)]).write(tmp_path / f"a{suffix}")
    mesh = vtk.read_mesh(tmp_path / f"a{suffix}")
    np.testing.assert_allclose(np.unique(mesh.points, axis=0), np.unique(points, axis=0), atol=1e-6)
    assert vtk.mesh_cells(mesh)["triangle"].shape == (2, 3)
    assert len(vtk.surface_triangles(mesh)) == 2


def test_su2(tmp_path):
    lines = [
        "NDIME= 2",
        "NELEM= 2",
        "5 0 1 2 0",
        "5 1 3 2 1",
        "NPOIN= 4",
        "0 0 0",
        "1 0 1",
        "0 1 2",
        "1 1 3",
        "NMARK= 0",
    ]
    (tmp_path / "a.su2").write_text("\n".join(lines) + "\n")
    np.testing.assert_array_equal(vtk.mesh_cells(vtk.read_mesh(tmp_path / "a.su2"))["triangle"], [[0, 1, 2], [1, 3, 2]])


def test_xdmf_is_one_file(tmp_path):
    arrays = sample(5)
    write_fields(tmp_path / "a.xdmf", arrays["points"], (("triangle", CELLS),), {"pressure": arrays["pressure"]})
    assert [path.name for path in tmp_path.iterdir()] == ["a.xdmf"]
    read = read_contents(Reference(tmp_path / "a.xdmf")).arrays
    np.testing.assert_array_equal(read["pressure"], arrays["pressure"])
    np.testing.assert_array_equal(read["points"][:, :2], arrays["points"])


def test_node_sets_and_groups_are_fields(tmp_path):
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0.0]])
    mesh = meshio.Mesh(
        points, [("triangle", CELLS)], point_sets={"INLET": np.array([0, 2])}, cell_sets={"WALL": [np.array([1])]}
    )
    mesh.write(tmp_path / "a.inp")
    read = vtk.read_mesh(tmp_path / "a.inp")
    np.testing.assert_array_equal(read.point_data["INLET"], [1, 0, 1, 0])
    np.testing.assert_array_equal(read.point_data["WALL"], [0, 1, 1, 1])
    np.testing.assert_array_equal(read.cell_data["WALL"], [0, 1])


def test_data_at_nodes_and_elements_of_gmsh(tmp_path):
    """In format 2.2, with elements of two kinds."""
    meshio = pytest.importorskip("meshio")
    cells = [("triangle", [[0, 1, 2], [1, 3, 2]]), ("line", [[0, 1]])]
    points = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]])
    path = tmp_path / "a.msh"
    meshio.Mesh(points, cells).write(path, file_format="gmsh22", binary=False)
    with path.open("a") as file:
        for kind, name, values in (("Node", "T", (5, 6, 7, 8)), ("Element", "k", (0.5, 1.5, 2.5))):
            rows = [f"{number + 1} {value}" for number, value in enumerate(values)]
            head = [f"${kind}Data", "1", f'"{name}"', "1", "0.0", "3", "0", "1", str(len(values))]
            file.write("\n".join([*head, *rows, f"$End{kind}Data", ""]))
    read = vtk.read_mesh(path)
    np.testing.assert_array_equal(read.point_data["T"], [5, 6, 7, 8])
    np.testing.assert_array_equal(read.cell_data["k"], [0.5, 1.5, 2.5])


def test_physical_groups_of_gmsh_are_fields(tmp_path):
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0.0]])
    tags = [np.array([7, 8])]
    meshio.Mesh(
        points,
        [("triangle", CELLS)],
        cell_data={"gmsh:physical": tags, "gmsh:geometrical": tags},
        field_data={"fluid": np.array([7, 2]), "solid": np.array([8, 2])},
    ).write(tmp_path / "a.msh", file_format="gmsh22")
    read = vtk.read_mesh(tmp_path / "a.msh")
    np.testing.assert_array_equal(read.cell_data["solid"], [0, 1])
    np.testing.assert_array_equal(read.point_data["fluid"], [1, 1, 1, 0])


def test_what_meshio_leaves_inconsistent(tmp_path, capfd):
    """Fields of fewer values than cells, boundaries with names, files that only VTK reads."""
    lines = ["NDIME= 2", "NELEM= 1", "5 0 1 2 0", "NPOIN= 3", "0 0 0", "1 0 1", "0 1 2", "NMARK= 2", "MARKER_TAG= wall"]
    lines += ["MARKER_ELEMS= 1", "3 0 1", "MARKER_TAG= inlet", "MARKER_ELEMS= 1", "3 1 2"]
    (tmp_path / "a.su2").write_text("\n".join(lines) + "\n")
    mesh = vtk.read_mesh(tmp_path / "a.su2")
    assert {name: len(cells) for name, cells in vtk.mesh_cells(mesh).items()} == {"triangle": 1, "line": 2}
    np.testing.assert_array_equal(mesh.point_data["wall"], [1, 1, 0])
    np.testing.assert_array_equal(mesh.point_data["inlet"], [0, 1, 1])
    (tmp_path / "b.su2").write_text((tmp_path / "a.su2").read_text().replace("wall", "0"))
    np.testing.assert_array_equal(vtk.read_mesh(tmp_path / "b.su2").point_data["0"], [1, 1, 0])
    text = "v 0 0 0\nv 1 0 0\nv 0 1 0\nvn 0 0 1\nf 1//1 2//1 3//1\n"
    (tmp_path / "a.obj").write_text(text)
    assert len(vtk.surface_triangles(vtk.read_mesh(tmp_path / "a.obj"))) == 1
    mesh = vtk.make_mesh(np.array([[0.0], [1.0], [2.0]]), [("line", np.array([[0, 1], [1, 2]]))], "a")
    assert vtk.surface_triangles(mesh).shape == (0, 3)
    assert capfd.readouterr() == ("", "")


def _write_series(folder, entries):
    lines = [f'<DataSet timestep="{time}" part="0" file="{file}"/>' for time, file in entries]
    (folder / "flow.pvd").write_text(f'<VTKFile type="Collection"><Collection>{"".join(lines)}</Collection></VTKFile>')


def test_steps_of_a_series_are_samples_with_their_time(tmp_path):
    for number in range(3):
        _fields(_grid((3, 2, 2 + number))).save(tmp_path / f"step_{number}.vti")
    _write_series(tmp_path, [(0.5 * number, f"step_{number}.vti") for number in range(3)])
    for path in (tmp_path, tmp_path / "flow.pvd"):
        references = find_samples(path)[""]
        assert [one.name for one in references] == ["flow_0000", "flow_0001", "flow_0002"]
    read = read_sample(references[2], parse_fields("points", "time,angle", "p"))
    assert len(read) == 24
    np.testing.assert_array_equal(read.inputs["time"], np.full((24, 1), 1.0))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([(0, "../secret.vtu")], r"names the file '../secret.vtu'; put the files of a series beside or below it"),
        ([(0, "a.vtu"), (0, "b.vtu")], r"has several parts at one time; save each step as one file"),
        ([("soon", "a.vtu")], r"flow.pvd cannot be read as a series \(could not convert"),
    ],
)
def test_strange_series_are_refused(tmp_path, entries, message):
    """When they are read, so that other files are not stopped by them."""
    for name in ("a.vtu", "b.vtu"):
        (tmp_path / name).write_bytes(b"")  # it is not read
    _write_series(tmp_path, entries)
    (reference,) = find_samples(tmp_path / "flow.pvd")[""]
    with pytest.raises(DataError, match=message):
        read_contents(reference)


def test_blocks_are_joined(tmp_path):
    first, second = _fields(_grid()), _fields(_grid((2, 2, 2)))
    del second.point_data["p"]
    pv.MultiBlock([first, second, None]).save(tmp_path / "a.vtm")
    mesh = vtk.read_mesh(tmp_path / "a.vtm")
    assert mesh.n_points == first.n_points + second.n_points
    np.testing.assert_array_equal(mesh.point_data["block"], np.repeat([0, 1], [12, 8]))
    np.testing.assert_array_equal(mesh.point_data["p"], [*first.point_data["p"], *[np.nan] * 8])


@pytest.mark.parametrize("suffix", [".vtp", ".vti", ".vtr", ".vts"])
def test_formats_of_another_type_of_mesh_are_refused(tmp_path, suffix):
    with pytest.raises(DataError, match=rf"a{suffix} would hold a mesh of VTK's type .*; write a .vtu file"):
        vtk.check_holds(tmp_path / f"a{suffix}", None)
    vtk.check_holds(tmp_path / "a.vtk", None)


@pytest.mark.parametrize("suffix", [".vtu", ".vtk", ".vtp", ".vti", ".cgns", ".ply", ".stl", ".msh", ".xdmf"])
def test_other_files_are_no_meshes(tmp_path, suffix, capfd):
    (tmp_path / f"a{suffix}").write_bytes(b"no mesh at all\n" * 3)
    words = r"cannot be read as a mesh( \(.{2,}\))?; get the file again(, or save it in another format, as .vtu)?$"
    with pytest.raises(DataError, match=words):
        vtk.read_mesh(tmp_path / f"a{suffix}")
    assert capfd.readouterr() == ("", "")
    with pytest.raises(DataError, match=r"b.vtu does not exist"):
        vtk.read_mesh(tmp_path / "b.vtu")


@pytest.mark.parametrize("name", ["a.vtu", "a.vtp", "a.vti", "a.vts"])
def test_damaged_files_are_refused(tmp_path, name):
    mesh = _fields(MESHES[name]())
    mesh.save(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(DataError, match="cannot be read as a mesh"):
        vtk.read_mesh(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.vtk", "DATASET UNSTRUCTURED_GRID\nPOINTS 99999999999 float\n0 0 0\n"),
        ("a.vtk", "DATASET STRUCTURED_POINTS\nDIMENSIONS 100000 100000 100000\nORIGIN 0 0 0\nSPACING 1 1 1\n"),
    ],
)
def test_sizes_beyond_the_file_are_refused_before_memory_is_asked_for(tmp_path, name, text):
    (tmp_path / name).write_text(f"# vtk DataFile Version 3.0\ntitle\nASCII\n{text}")
    with pytest.raises(DataError, match=r"it announces 1e\+\d+ values in \d+ bytes"):
        vtk.read_mesh(tmp_path / name)


def test_cells_beyond_the_points_are_refused(tmp_path):
    lines = ["# vtk DataFile Version 3.0", "a", "ASCII", "DATASET UNSTRUCTURED_GRID", "POINTS 3 float"]
    lines += ["0 0 0 1 0 0 0 1 0", "CELLS 1 4", "3 0 1 9", "CELL_TYPES 1", "5"]
    (tmp_path / "a.vtk").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"its cells name points 0 to 9, but there are 3, numbered from 0"):
        vtk.read_mesh(tmp_path / "a.vtk")


def test_meshes_need_pyvista(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyvista", None)
    with pytest.raises(DataError, match=r"a.vtu needs pyvista; run `pip install 'flare_jax\[viz\]'`"):
        vtk.read_mesh(tmp_path / "a.vtu")


def test_fields_at_cells_are_named(tmp_path):
    _fields(_grid()).save(tmp_path / "a.vti")
    with pytest.raises(
        DataError, match=r"has 'c' at its cells, .*; set data.cell_data=nodes .* or data.cell_data=cent"
    ):
        read_sample(Reference(tmp_path / "a.vti"), parse_fields("points", "", "c"))
    with pytest.raises(DataError, match=r"a.vti has the arrays .* but lacks 'temperature'"):
        read_sample(Reference(tmp_path / "a.vti"), parse_fields("points", "", "temperature"))
    with pytest.raises(DataError, match=r"data.cell_data='corners' is not known; choose one of '', 'centres', 'nodes'"):
        parse_fields("points", "", "c", cell_data="corners")


def test_fields_at_cells_are_averaged_to_the_nodes(tmp_path):
    _fields(_grid((3, 2, 2))).save(tmp_path / "a.vti")
    read = read_sample(Reference(tmp_path / "a.vti"), parse_fields("points", "p", "c", cell_data="nodes"))
    np.testing.assert_array_equal(read.targets["c"][:, 0], [0, 0.5, 1] * 4)
    np.testing.assert_array_equal(read.inputs["p"][:, 0], np.arange(12) + 0.5)


def test_centres_of_cells_are_points(tmp_path):
    grid = _grid((3, 2, 2)).cast_to_unstructured_grid()
    edge = pv.UnstructuredGrid({pv.CellType.LINE: np.array([[0, 1]])}, grid.points)
    mesh = _fields(pv.MultiBlock([edge, grid]).combine(merge_points=False))
    mesh.save(tmp_path / "a.vtu")
    fields = parse_fields("points", "p", "c", cell_data="centres")
    contents = read_contents(Reference(tmp_path / "a.vtu"), fields)
    read = read_sample(Reference(tmp_path / "a.vtu"), fields)
    # The line is no part of the volume.
    np.testing.assert_allclose(read.points, [[1e6 + 0.5, 0.5, 0.5], [1e6 + 1.5, 0.5, 0.5]])
    np.testing.assert_array_equal(read.targets["c"][:, 0], [1, 2])
    corners = np.array([0, 1, 3, 4, 6, 7, 9, 10]) + 12
    np.testing.assert_allclose(read.inputs["p"][:, 0], [np.mean(corners) + 0.5, np.mean(corners) + 1.5])
    write_contents(tmp_path / "b.vtu", contents, "points", (), {"c_predicted": np.array([3.0, 4.0])})
    back = pv.read(tmp_path / "b.vtu")
    np.testing.assert_array_equal(back.cell_data["c_predicted"], [np.nan, 3, 4])
    np.testing.assert_array_equal(back.point_data["p"], mesh.point_data["p"])
    write_contents(tmp_path / "b.npz", contents, "points", (), {"c_predicted": np.array([3.0, 4.0])})
    assert np.load(tmp_path / "b.npz")["points"].shape == (2, 3)

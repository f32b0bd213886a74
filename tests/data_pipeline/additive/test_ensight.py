"""Reading and writing of EnSight Gold files, and what damaged ones say; VTK reads the same."""

import numpy as np
import pytest

from data_pipeline.additive import case_index, ensight
from data_pipeline.errors import DataError
from tests.data_pipeline.additive.meshes import block


@pytest.fixture(scope="module")
def geometry():
    points, elements = block(2, 1, 2)
    return ensight.write_geometry(points, elements, "a part")


def test_files_come_back(geometry):
    points, elements = block(2, 1, 2)
    read = ensight.read_geometry(geometry, "a.geo")
    np.testing.assert_array_equal(read[0], points)
    np.testing.assert_array_equal(read[1], elements)
    values = np.random.default_rng(0).normal(size=(len(points), 6)).astype(np.float32)
    data = ensight.write_variable(values, "stress")
    np.testing.assert_array_equal(ensight.read_variable(data, 6, len(points), "a.sig.ens"), values)


def replaced(old, new):
    return lambda data: data.replace(old.ljust(80), new.ljust(80))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-5], "a.geo ends after .* bytes, in the middle of the elements"),
        (lambda data: data[:500], "in the middle of the part's description"),
        (lambda data: b"Text description\n" + data, "begins with 'Text description.*it is a text file"),
        (replaced(b"hexa8", b"quad4"), "has 'quad4' where 'hexa8' is expected"),
        (lambda data: data + b"part".ljust(80), "has a second part behind the hexahedra"),
        (lambda data: data[:-4] + np.int32(99).tobytes(), "has elements with the nodes 1 to 99 of 18"),
        (replaced(b"node id off", b"nodes"), "has 'nodes' where 'node id' is expected"),
    ],
)
def test_damaged_geometries_are_named_with_the_reason(geometry, change, message):
    with pytest.raises(DataError, match=message):
        ensight.read_geometry(change(geometry), "a.geo")


def test_variables_must_fit_the_mesh():
    data = ensight.write_variable(np.ones((4, 3)), "displacement")
    with pytest.raises(DataError, match="in the middle of 3 values at each of 5 nodes"):
        ensight.read_variable(data, 3, 5, "a.dis.ens")
    with pytest.raises(DataError, match="bytes behind"):
        ensight.read_variable(data, 3, 3, "a.dis.ens")
    bad = ensight.write_variable(np.full((4, 1), np.nan), "temperature")
    with pytest.raises(DataError, match="NaN or infinite"):
        ensight.read_variable(bad, 1, 4, "a.tmp.ens")


def test_shears_are_xy_yz_xz():
    """A tensor whose principal stresses tell the order of its shears apart."""
    xx, yy, zz, xy, yz, xz = 10.0, 20.0, 40.0, 3.0, 8.0, 1.0
    matrix = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    values, directions = ensight.principal(np.array([[xx, yy, zz, xy, yz, xz]]))
    np.testing.assert_allclose(values[0], np.linalg.eigvalsh(matrix)[::-1])
    np.testing.assert_allclose(directions[0] @ matrix @ directions[0].T, np.diag(values[0]), atol=1e-12)


def test_vtk_reads_the_same(geometry, tmp_path):
    pyvista = pytest.importorskip("pyvista")
    points, elements = block(2, 1, 2)
    displacement = np.random.default_rng(0).normal(size=(len(points), 3)).astype(np.float32)
    (tmp_path / "m_1.geo").write_bytes(geometry)
    (tmp_path / "m00_1.dis.ens").write_bytes(ensight.write_variable(displacement, "displacement"))
    text = case_index.write_index("m", [1.0], [1.0], ["dis"])
    (tmp_path / "m.case").write_text(text)
    mesh = pyvista.get_reader(str(tmp_path / "m.case")).read()[0]
    np.testing.assert_array_equal(mesh.points, points.astype(np.float32))
    np.testing.assert_array_equal(mesh.cells.reshape(-1, 9)[:, 1:], elements)
    np.testing.assert_array_equal(mesh.point_data["disp"], displacement)

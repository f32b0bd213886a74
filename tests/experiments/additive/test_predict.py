"""Predictions on printed parts: meshes with and without truth, surfaces, series."""

import numpy as np
import pytest

from data_pipeline.additive.voxels import mesh_of_surface
from data_pipeline.custom.sample import Contents
from data_pipeline.errors import DataError
from experiments.errors import UserError
from experiments.export.function import ExportedFunction
from experiments.predict.graph import edges_of
from flare_jax.convert.descriptions import ModelDescription
from flare_jax.convert.trained import TrainedModel
from tests.experiments.additive import parts
from tests.program_server import run_program

pv = pytest.importorskip("pyvista")


def predict(*arguments):
    result = run_program("experiments.predict", arguments)
    return result


@pytest.fixture(scope="module")
def cube(tmp_path_factory):
    """Return the STL file of a block of 9 × 6 × 3 mm."""
    path = tmp_path_factory.mktemp("stl") / "cube.stl"
    pv.Box((100, 109, 0, 6, -5, -2)).triangulate().save(path)
    return path


def test_a_surface_becomes_the_mesh_of_the_simulation(cube):
    points, elements = mesh_of_surface(cube)
    np.testing.assert_allclose([points.min(0), points.max(0)], [[-4.5, -3, 0], [4.5, 3, 3]], atol=1e-5)
    corners = points[elements]
    sizes = corners.max(axis=1) - corners.min(axis=1)
    np.testing.assert_allclose(sizes.prod(axis=1).sum(), 9 * 6 * 3, rtol=1e-6)
    np.testing.assert_allclose(sizes.min(0), [9 / 32, 6 / 32, 0.6])
    assert set(np.unique(elements)) == set(range(len(points)))


def test_surfaces_without_an_inside_or_of_another_unit_are_refused(cube, tmp_path):
    pv.Plane().triangulate().save(tmp_path / "open.stl")
    with pytest.raises(DataError, match=r"open.stl is an open surface, with .* edges of one triangle"):
        mesh_of_surface(tmp_path / "open.stl")
    pv.Sphere(radius=500).save(tmp_path / "large.stl")
    with pytest.raises(DataError, match=r"large.stl is .* mm large, but parts have at most 60 mm"):
        mesh_of_surface(tmp_path / "large.stl")


@pytest.mark.slow
def test_meshes_surfaces_and_published_files(final_run, final_data, cube, tmp_path):
    """A graph network takes the published arrays, a mesh file with the same hexahedra, and a surface."""
    part = final_data / "LPBF_FLARE" / "test" / "case00004_part_4.npz"
    result = predict(f"--workdir={final_run}", f"--input={part}", f"--output={tmp_path / 'a.vtu'}")
    assert result.returncode == 0, result.stderr
    made, raw = pv.read(tmp_path / "a.vtu"), np.load(part)
    assert made.n_cells == len(raw["elems"])
    difference = made.point_data["disp_z_predicted"] - raw["disp"][:, 2]
    np.testing.assert_allclose(made.point_data["disp_z_error"], difference, atol=1e-5)
    assert "vm: " in result.stdout
    # The same prediction as that of the run's own evaluation.
    (own,) = (final_run / "paraview").glob("*-test*-case00004_part_4.vtu")
    np.testing.assert_allclose(pv.read(own).point_data["vm_predicted"], made.point_data["vm_predicted"], rtol=1e-3)
    cells = np.insert(raw["elems"], 0, 8, axis=1).ravel()
    pv.UnstructuredGrid(cells, np.full(len(raw["elems"]), 12, np.uint8), raw["pos"]).save(tmp_path / "mesh.vtu")
    result = predict(f"--workdir={final_run}", f"--input={tmp_path / 'mesh.vtu'}", f"--output={tmp_path / 'b.npz'}")
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(np.load(tmp_path / "b.npz")["vm_predicted"], made.point_data["vm_predicted"], rtol=1e-4)
    result = predict(f"--workdir={final_run}", f"--input={cube}", f"--output={tmp_path / 'c.vtu'}")
    assert result.returncode == 0, result.stderr
    assert "voxelised to" in result.stdout
    solid = pv.read(tmp_path / "c.vtu")
    assert set(solid.celltypes) == {12}
    assert np.isfinite(solid.point_data["disp_z_predicted"]).all()
    pv.PolyData(raw["pos"]).save(tmp_path / "cloud.vtp")
    result = predict(f"--workdir={final_run}", f"--input={tmp_path / 'cloud.vtp'}", f"--output={tmp_path / 'd.vtp'}")
    assert result.returncode == 2
    assert "has no hexahedra, to whose surface" in result.stderr


@pytest.mark.slow
def test_series_are_marched(series_run, series_data, cube, tmp_path):
    part = series_data / "LPBF_FLARE" / "series" / "part_5.npz"
    result = predict(f"--workdir={series_run}", f"--input={part}", f"--output={tmp_path / 'out' / 'march.pvd'}")
    assert result.returncode == 0, result.stderr
    assert "part_5: 5 steps in" in result.stdout
    reader = pv.get_reader(str(tmp_path / "out" / "march.pvd"))
    reader.set_active_time_value(4)
    last = reader.read()[0]
    np.testing.assert_allclose(last.point_data["disp_z"], np.load(part)["disp"][4, :, 2], atol=1e-5)
    assert np.abs(last.point_data["disp_z_error"]).max() > 0
    result = predict(f"--workdir={series_run}", f"--input={part}", f"--output={tmp_path / 'march.npz'}")
    assert result.returncode == 0, result.stderr
    predicted = np.load(tmp_path / "march.npz")["disp_z_predicted"]
    np.testing.assert_allclose(predicted[4], last.point_data["disp_z_predicted"], atol=1e-5)
    for source, message in ((cube, "has no state after the first group"), (tmp_path / "no.npz", "does not exist")):
        result = predict(f"--workdir={series_run}", f"--input={source}", f"--output={tmp_path / 'no.pvd'}")
        assert result.returncode == 2
        assert message in result.stderr
    written = parts.series_case(0, 1, 3)
    assert written.zmax[-1] == 3 * parts.SIZE


def test_a_model_of_messages_needs_cells():
    """Triangles and quadrilaterals have edges too; marked ones are those of hexahedra."""
    points, quad = np.zeros((5, 2)), np.array([[0, 1, 2, 3]])
    contents = Contents({}, ())
    found = edges_of(contents, (("quad", quad), ("triangle", np.array([[0, 1, 4]]))), points, 2, "a")
    assert found.shape[1] == 2 * 6  # the side of both counts once
    with pytest.raises(UserError, match="a has no triangles, quadrilaterals, tetrahedra or hexahedra"):
        edges_of(contents, (("vertex", np.arange(5)[:, None]),), points, 2, "a")
    with pytest.raises(UserError, match="a has no hexahedra, along whose edges and at whose hanging nodes"):
        edges_of(contents, (("quad", quad),), points, 3, "a")
    assert edges_of(contents, (), points, 0, "a") is None


def test_a_model_of_messages_is_not_exported():
    model = ModelDescription("mesh_graph_net", 3, 1, {"edge_dim": 4})
    numbers = {"x_mean": [0.0] * 3, "x_std": [1.0] * 3, "y_mean": [0.0], "y_std": [1.0], "scales": [1.0]}
    prediction = {"axes": [0, 1, 2], "inputs": {}, "targets": {"disp_z": 1}, **numbers}
    with pytest.raises(ValueError, match=r"a mesh_graph_net, which takes the edges of a mesh, .* another model type"):
        ExportedFunction.of(TrainedModel(model, {}, prediction))

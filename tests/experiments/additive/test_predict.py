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

pv = pytest.importorskip("pyvista")


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

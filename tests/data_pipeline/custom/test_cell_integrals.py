"""Integrals of fields at the centres of cells against ones known exactly, on cells of every kind."""

from dataclasses import replace

import numpy as np
import pytest

from data_pipeline.custom.integrals import integrate, linear_cells, parse_integrals, region_weights
from data_pipeline.custom.loader import load
from data_pipeline.custom.readers import Reference, read_contents
from data_pipeline.custom.regions import regions_of
from data_pipeline.custom.sample import Fields, make_sample
from data_pipeline.errors import DataError
from data_pipeline.vtk import cell_centres
from experiments.integral_report import values_of_test

pv = pytest.importorskip("pyvista")
BOX = (2.0, 1.0, 0.5)


def polyhedra():
    """Return the box as two polyhedra, boxes with faces of their own."""
    points = np.array([[x, y, z] for x in (0, 1.2, 2) for y in (0, 1.0) for z in (0, 0.5)])
    cells = []
    for first in (0, 4):
        corner = lambda x, y, z, first=first: first + 4 * x + 2 * y + z  # noqa: E731
        around = ((0, 0), (1, 0), (1, 1), (0, 1))
        faces = [[corner(x, y, z) for y, z in around] for x in (0, 1)]
        faces += [[corner(x, y, z) for x, z in around] for y in (0, 1)]
        faces += [[corner(x, y, z) for x, y in around] for z in (0, 1)]
        stream = [len(faces), *(number for face in faces for number in (4, *face))]
        cells += [len(stream), *stream]
    return pv.UnstructuredGrid(np.array(cells), np.array([42, 42]), points)


def box(kind):
    """Return the box cut into cells of a kind."""
    image = pv.ImageData(dimensions=(5, 4, 3), spacing=(0.5, 1 / 3, 0.25))
    rectilinear = pv.RectilinearGrid([0, 0.3, 1.0, 2], [0, 0.6, 1.0], [0, 0.5])
    made = {"tetra": image.triangulate, "hexahedron": image.cast_to_structured_grid, "polyhedron": polyhedra}
    return rectilinear if kind == "voxel" else made[kind]()


def results(mesh, text, tmp_path, suffix=".vtu"):
    """Return the integrals of the fields of a mesh at its cells, by the options of a run."""
    mesh.save(tmp_path / f"a{suffix}")
    contents = read_contents(Reference(tmp_path / f"a{suffix}"), cell_data="centres")
    sample = make_sample("a", contents, Fields("points", (), ()), "a")
    wanted = parse_integrals(text)
    fields = {name: array.reshape(len(sample), -1) for name, array in contents.arrays.items()}
    weights = regions_of(wanted, sample, contents, "a").weights()
    return [integrate(one, fields, weight) for one, weight in zip(wanted, weights, strict=True)]


@pytest.mark.parametrize("kind", ["voxel", "tetra", "hexahedron", "polyhedron"])
def test_of_a_box(kind, tmp_path):
    """Means, the flux and the force of constant fields through one side and through all, which is nothing."""
    mesh = box(kind)
    centres = cell_centres(mesh)
    mesh.cell_data["x"], mesh.cell_data["p"] = 3 + centres[:, 0], np.full(mesh.n_cells, 7.0)
    mesh.cell_data["u"] = np.tile([2.0, 5.0, -1.0], (mesh.n_cells, 1))
    mesh.point_data["side"] = (mesh.points[:, 0] == 2.0).astype(float)
    mesh.cell_data["half"] = (centres[:, 0] > 1.0).astype(int)
    text = "mean:x; flux:u; flux:u@side; force:p@side; force:p,u@side; mean:x@half; mean:x@side"
    mean, closed, flux, force, shear, half, side = results(
        mesh, text, tmp_path, {"voxel": ".vtr", "hexahedron": ".vts"}.get(kind, ".vtu")
    )
    np.testing.assert_allclose(mean, [4.0], rtol=1e-6)
    np.testing.assert_allclose(closed, [0.0], atol=1e-6)
    np.testing.assert_allclose(flux, [2 * 1 * 0.5], rtol=1e-6)
    np.testing.assert_allclose(force, [7 * 0.5, 0, 0], atol=1e-6)
    np.testing.assert_allclose(shear, [7 * 0.5 + 1.0, 2.5, -0.5], atol=1e-6)
    chosen = mesh.cell_data["half"] > 0
    sizes = np.abs(mesh.compute_cell_sizes().cell_data["Volume"]) if kind != "polyhedron" else np.array([0.6, 0.4])
    np.testing.assert_allclose(half, np.average(mesh.cell_data["x"][chosen], weights=sizes[chosen]), rtol=1e-6)
    # No whole cell has its points on the side: the mean is that over it, of the cells there.
    assert (centres.min(axis=0) > 0.05).all()
    last = centres[:, 0] > 2 - {"voxel": 1.0, "tetra": 0.5, "hexahedron": 0.5, "polyhedron": 0.8}[kind]
    assert (3 + centres[last, 0]).min() <= side[0] <= (3 + centres[last, 0]).max()


def test_of_cells_in_the_plane(tmp_path):
    """Pixels of a grid, and polygons of five and more corners in a plane of space."""
    image = pv.RectilinearGrid([0, 0.5, 2.0], [0, 0.4, 1.0], [0.0])
    image.cell_data["u"] = np.tile([2.0, 5.0, 0.0], (4, 1))
    image.cell_data["right"] = (np.asarray(image.cell_centers().points)[:, 0] > 1).astype(float)
    image.point_data["end"] = (image.points[:, 0] == 2).astype(float)
    end, closed, right = results(image, "flux:u@end; flux:u; mean:u@right", tmp_path, ".vtr")
    np.testing.assert_allclose([*end, *closed], [2.0, 0.0], atol=1e-9)
    np.testing.assert_allclose(right, [2, 5, 0])
    angles = 2 * np.pi * np.arange(5) / 5
    points = np.stack([np.full(6, 3.0), *np.array([*zip(np.cos(angles), np.sin(angles), strict=True), (2, 0.0)]).T], 1)
    mesh = pv.PolyData(points, np.array([5, 0, 1, 2, 3, 4, 3, 0, 5, 1]))
    mesh.cell_data["u"], mesh.cell_data["t"] = np.tile([0.0, 1.0, 4.0], (2, 1)), np.array([1.0, 2.0])
    mesh.point_data["edge"] = np.array([0, 0, 0, 0, 0, 1.0])
    mesh.point_data["edge"][0] = 1.0  # from the tip to the first corner
    closed, edge, mean = results(mesh, "flux:u; flux:u@edge; mean:t", tmp_path, ".vtp")
    np.testing.assert_allclose(closed, [0.0], atol=1e-9)
    np.testing.assert_allclose(edge, [4.0 * -1], rtol=1e-6)
    areas = np.array([2.5 * np.sin(2 * np.pi / 5), 0.5 * np.sin(angles[1])])
    np.testing.assert_allclose(mean, [areas @ [1, 2] / areas.sum()], rtol=1e-6)


def test_buoyancy_of_a_surface_with_one_value_in_each_cell(tmp_path):
    sphere = pv.Sphere(radius=0.5, theta_resolution=60, phi_resolution=60)
    sphere.cell_data["p"] = -9.81 * np.asarray(sphere.cell_centers().points)[:, 2]
    (force,) = results(sphere, "force:p", tmp_path, ".vtp")
    np.testing.assert_allclose(force, [0, 0, 9.81 * np.pi / 6], rtol=1e-2, atol=1e-5)


def test_cells_of_a_boundary_mark_it(tmp_path):
    """Triangles around tetrahedra, as solvers write their patches, by a field at cells alone."""
    volume = box("tetra")
    surface = volume.extract_surface(algorithm="dataset_surface")
    side = surface.extract_cells(np.isclose(surface.cell_centers().points[:, 0], 2))
    side.clear_data()
    volume.cell_data["patch"], side.cell_data["patch"] = np.zeros(volume.n_cells), np.ones(side.n_cells)
    mesh = pv.merge([volume, side], merge_points=True)
    mesh.cell_data["u"] = np.tile([2.0, 0.0, 0.0], (mesh.n_cells, 1))
    (flux,) = results(mesh, "flux:u@patch", tmp_path)
    np.testing.assert_allclose(flux, [1.0], rtol=1e-6)
    with pytest.raises(DataError, match=r"marks the region of 'mean:u@inlet' by 'inlet', which is not there; name a"):
        results(mesh, "mean:u@inlet", tmp_path)
    mesh.point_data["corner"] = np.all(mesh.points == 0, axis=1).astype(float)
    with pytest.raises(
        DataError, match=r"a has no boundary marked by 'corner', which 'flux:u@corner' needs; mark its c"
    ):
        results(mesh, "flux:u@corner", tmp_path)


QUADRATIC = {
    "triangle6": [[0, 0], [2, 0], [0, 1]],
    "quad8": [[0, 0], [2, 0], [2, 1], [0, 1]],
    "tetra10": [[0, 0, 0], [2, 0, 0], [0, 1, 0], [0, 0, 3]],
}
EDGES = {
    "triangle6": ((0, 1), (1, 2), (2, 0)),
    "quad8": ((0, 1), (1, 2), (2, 3), (3, 0)),
    "tetra10": ((0, 1), (1, 2), (0, 2), (0, 3), (1, 3), (2, 3)),
}


@pytest.mark.parametrize("kind", ["triangle6", "quad8", "quad9", "tetra10"])
def test_quadratic_cells_are_cut_at_their_nodes(kind):
    """The mean of a linear field, the whole size, and the flux of a linear field out of them (Gauss)."""
    name = kind.replace("9", "8")
    corners = np.array(QUADRATIC[name], float)
    middles = [corners[list(edge)].mean(axis=0) for edge in EDGES[name]]
    points = np.array([*corners, *middles, *([corners.mean(axis=0)] if kind == "quad9" else [])])
    cells, every = linear_cells({kind: np.arange(len(points))[None]}), np.ones(len(points), bool)
    mean, flux = parse_integrals("mean:f; flux:v")
    weights = region_weights(mean, points, cells, every, "a")
    size = {"triangle6": 1.0, "tetra10": 1.0}.get(kind, 2.0)
    np.testing.assert_allclose(weights.sizes.sum(), size)
    np.testing.assert_allclose(integrate(mean, {"f": 1 + points[:, :1]}, weights), [1 + corners[:, 0].mean()])
    weights = region_weights(flux, points, cells, every, "a")
    np.testing.assert_allclose(integrate(flux, {"v": 3 * points}, weights), [3 * points.shape[1] * size])


def test_grids_have_integrals_at_their_nodes(tmp_path):
    """Those of VTK number the corners of their cells in another way."""
    mesh = pv.RectilinearGrid([0, 0.5, 2.0], [0, 0.4, 1.0], [0.0, 0.5])
    mesh.point_data["x"] = mesh.points[:, 0]
    mesh.save(tmp_path / "a.vtr")
    contents = read_contents(Reference(tmp_path / "a.vtr"), cell_data="nodes")
    sample = make_sample("a", contents, Fields("points", (), ()), "a")
    (mean,) = wanted = parse_integrals("mean:x")
    (weights,) = regions_of(wanted, sample, contents, "a").weights()
    np.testing.assert_allclose(integrate(mean, {"x": contents.arrays["x"][:, None]}, weights), [1.0])
    bare = replace(contents, mesh=pv.PolyData(mesh.points))
    with pytest.raises(
        DataError, match=r"a has no cells to integrate over \(triangles to hexahedra, and quadratic tri"
    ):
        regions_of(wanted, sample, bare, "a").weights()


@pytest.mark.parametrize("moves", [False, True])
def test_of_rollouts(tmp_path, moves):
    """Cells that stay have the weights of the first step; integrals of those that move are refused."""
    for case in range(3):
        (tmp_path / f"case_{case}").mkdir()
        for step in range(3):
            mesh = box("hexahedron")
            mesh.points += step * moves
            mesh.cell_data["q"] = case + step + np.arange(mesh.n_cells) / 10.0
            mesh.save(tmp_path / f"case_{case}" / f"step_{step}.vts")
    options = {"targets": "q", "cell_data": "centres", "time": "rollout", "integrals": "mean:q"}
    if moves:
        with pytest.raises(
            DataError, match=r"the points of these series move, and integrals at the centres of cells ne"
        ):
            load(tmp_path, 0, 0, path=str(tmp_path), **options)
        return
    dataset = load(tmp_path, 0, 0, path=str(tmp_path), **options)
    ((weights,),) = dataset.integrals.weights["test"]
    np.testing.assert_allclose(weights.sizes, 1 / mesh.n_cells, rtol=1e-6)
    (truth, *_) = values_of_test(dataset, "test", lambda case: dataset.tests["test"].y[case][:, 1:])
    assert (truth.time, truth.integral) == (1.0, "mean:q")
    np.testing.assert_allclose(truth.prediction, truth.truth)
    first = int(dataset.case_name("test", 0)[-1])
    np.testing.assert_allclose(truth.truth, first + 1 + np.arange(mesh.n_cells).mean() / 10, rtol=1e-5)

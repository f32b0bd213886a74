"""Integrals over meshes against ones known exactly: areas, buoyancy, fluxes, lift of an airfoil."""

import numpy as np
import pytest

from data_pipeline.custom.example import airfoil, ring_mesh, solve
from data_pipeline.custom.integrals import (
    Integral,
    check_channels,
    integrate,
    parse_integrals,
    parse_reference,
    region_weights,
)
from data_pipeline.errors import DataError


def grid(kind):
    """Return the points of a box of 2 x 1 (x 0.5) cut into cells of a kind, its corners moved inside."""
    pv = pytest.importorskip("pyvista")
    image = pv.ImageData(dimensions=(5, 4, 3 if kind != "flat" else 1), spacing=(0.5, 1 / 3, 0.25))
    mesh = image.cast_to_unstructured_grid() if kind == "hexahedron" else image.triangulate()
    points = np.array(mesh.points, np.float64)
    names = {10: "tetra", 12: "hexahedron", 11: "hexahedron", 5: "triangle", 8: "quad", 9: "quad"}
    cells = {names[number]: np.asarray(numbers) for number, numbers in mesh.cells_dict.items()}
    if 11 in mesh.cells_dict:  # voxels number their corners otherwise
        cells = {"hexahedron": cells["hexahedron"][:, [0, 1, 3, 2, 4, 5, 7, 6]]}
    return points, cells


@pytest.mark.parametrize("kind", ["tetra", "hexahedron"])
def test_of_a_box(kind):
    """The mean of a linear field, its flux through the whole boundary (Gauss), and the area of one side."""
    points, cells = grid(kind)
    everywhere, x = np.ones(len(points), bool), points[:, :1]
    mean = integrate(Integral("mean", ("f",), ""), {"f": 3 + x}, region_weights(
        Integral("mean", ("f",), ""), points, cells, everywhere, "box"))  # fmt: skip
    np.testing.assert_allclose(mean, [4.0], rtol=1e-6)
    flux = Integral("flux", ("v",), "")
    weights = region_weights(flux, points, cells, everywhere, "box")
    velocity = np.column_stack([2 * points[:, 0], points[:, 1], 0 * points[:, 2]])
    np.testing.assert_allclose(integrate(flux, {"v": velocity}, weights), [3 * 2 * 1 * 0.5], rtol=1e-6)
    side = region_weights(flux, points, cells, points[:, 0] == points[:, 0].max(), "box")
    np.testing.assert_allclose(side.normals.sum(0), [1 * 0.5, 0, 0], atol=1e-7)
    np.testing.assert_allclose(side.sizes.sum(), 0.5, rtol=1e-6)
    force = Integral("force", ("p", "s"), "side")
    fields = {"p": np.full((len(points), 1), 7.0), "s": np.tile([0.0, 2.0, 0.0], (len(points), 1))}
    np.testing.assert_allclose(integrate(force, fields, side), [3.5, 1.0, 0.0], atol=1e-6)


def test_buoyancy_of_a_closed_surface():
    """The force of a pressure that grows with depth on a body is the weight of what it displaces, upwards."""
    pv = pytest.importorskip("pyvista")
    sphere = pv.Sphere(radius=0.5, theta_resolution=60, phi_resolution=60)
    points, cells = np.array(sphere.points, np.float64), {"triangle": sphere.regular_faces}
    force = Integral("force", ("p",), "")
    for turned in (cells, {"triangle": cells["triangle"][:, ::-1]}):
        weights = region_weights(force, points, turned, np.ones(len(points), bool), "sphere")
        found = integrate(force, {"p": -9.81 * points[:, 2:]}, weights)
        np.testing.assert_allclose(found, [0, 0, 9.81 * np.pi / 6], rtol=1e-2, atol=1e-6)
        np.testing.assert_allclose(weights.sizes.sum(), np.pi, rtol=1e-2)


def test_lift_and_drag_of_an_airfoil():
    """Kutta and Joukowski: a lift of density, speed and circulation across the stream, and no drag."""
    flow = airfoil(0.15, 0.1, np.deg2rad(5.0))
    ring, triangles = ring_mesh(800, 12)
    fields = solve(flow, ring)
    body = np.isclose(ring[:, 0], 1.0)
    force = Integral("force", ("pressure",), "body")
    points = fields["points"].astype(np.float64)
    weights = region_weights(force, points, {"triangle": triangles}, body, "airfoil")
    found = integrate(force, {"pressure": fields["pressure"][:, None] / 2}, weights)
    across = np.array([-np.sin(flow.angle), np.cos(flow.angle)])
    along = np.array([np.cos(flow.angle), np.sin(flow.angle)])
    np.testing.assert_allclose(found @ across, flow.circulation, rtol=5e-3)
    np.testing.assert_allclose(found @ along, 0, atol=5e-3 * flow.circulation)
    flux = Integral("flux", ("velocity",), "body")
    assert abs(integrate(flux, fields, weights)[0]) < 5e-3


def test_options():
    assert parse_integrals("force: pressure, shear@wall ;mean:t@chip;flux:u") == (
        Integral("force", ("pressure", "shear"), "wall"),
        Integral("mean", ("t",), "chip"),
        Integral("flux", ("u",), ""),
    )  # fmt: skip
    assert parse_integrals("force:p@a")[0].name == "force:p@a"
    assert parse_reference("density=1.2, speed=40,area=2") == 1920.0
    assert parse_reference("") == 0.0
    for text in ("force", "torque:p@wall", "mean:a,b@wall", "force:,@wall"):
        with pytest.raises(DataError, match=r"is not understood at .*; write KIND:FIELDS@MARK with a kind among force"):
            parse_integrals(text)
    for text in ("density=1", "density=1,speed=0,area=1", "density=1,speed=2,area=1,angle=3"):
        with pytest.raises(DataError, match=r"data.reference='.*' is not understood; write density=1.2,speed=40"):
            parse_reference(text)
    with pytest.raises(DataError, match="'p' is none of the targets q"):
        check_channels(parse_integrals("mean:p"), {"q": 1}, 2)
    with pytest.raises(DataError, match="'p' has 1 channels where 2 are needed"):
        check_channels(parse_integrals("flux:p"), {"p": 1}, 2)
    points, cells = np.random.default_rng(0).random((4, 2)), {"triangle": np.array([[0, 1, 2], [1, 2, 3]])}
    with pytest.raises(DataError, match="has no boundary marked by 'wall', which 'force:p@wall' needs"):
        region_weights(parse_integrals("force:p@wall")[0], points, cells, np.zeros(4, bool), "a.npz")
    with pytest.raises(DataError, match=r"a.npz has no cells to integrate over"):
        region_weights(parse_integrals("force:p")[0], points, {}, np.ones(4, bool), "a.npz")

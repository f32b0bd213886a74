"""The example data are the potential flow that they claim to be, in every format."""

import numpy as np
import pytest

from data_pipeline.custom import example
from data_pipeline.custom.example import airfoil, ellipse, main, ring_mesh, solve
from data_pipeline.custom.folder import find_samples
from data_pipeline.custom.readers import read_contents, read_sample
from data_pipeline.custom.sample import parse_fields
from data_pipeline.custom.writers import all_arrays

FIELDS = parse_fields("points", "angle", "pressure,velocity")


def test_flow_satisfies_its_equations():
    flow = ellipse(0.9, 0.5, 0.3)
    ring, _ = ring_mesh(64, 9)
    wall = solve(flow, ring[:64].astype(np.float64))
    x, y = wall["points"].T
    np.testing.assert_allclose((x / 0.9) ** 2 + (y / 0.5) ** 2, 1, rtol=1e-5)
    normals = np.stack([x / 0.9**2, y / 0.5**2], axis=-1)
    np.testing.assert_allclose(np.sum(wall["velocity"] * normals, axis=1), 0, atol=2e-5)
    far = solve(flow, np.array([[1e4, 0.7]]))
    np.testing.assert_allclose(far["velocity"], [[np.cos(0.3), np.sin(0.3)]], atol=1e-6)
    np.testing.assert_allclose(far["pressure"], 0, atol=1e-6)
    everywhere = solve(flow, ring)
    np.testing.assert_allclose(everywhere["pressure"], 1 - np.sum(everywhere["velocity"] ** 2, axis=1), atol=1e-5)


def test_flow_is_free_of_sources_and_curl():
    """Integrals of the velocity along and across a closed ring of points vanish."""
    ring, _ = ring_mesh(2000, 3)
    fields = solve(ellipse(0.8, 0.4, -0.2), ring[2000:4000])
    steps = (np.roll(fields["points"], -1, 0) - fields["points"]).astype(np.float64)
    middle = (np.roll(fields["velocity"], -1, 0) + fields["velocity"]) / 2
    assert abs(np.sum(middle * steps)) < 1e-4
    assert abs(np.sum(middle[:, 0] * steps[:, 1] - middle[:, 1] * steps[:, 0])) < 1e-4


def test_flow_around_an_airfoil_has_the_lift_of_its_circulation():
    flow = airfoil(0.15, 0.1, 0.1)
    ring, _ = ring_mesh(4000, 3)
    wall, outer = (solve(flow, ring[rows].astype(np.float64)) for rows in (slice(4000), slice(4000, 8000)))
    steps = (np.roll(outer["points"], -1, 0) - outer["points"]).astype(np.float64)
    middle = (np.roll(outer["velocity"], -1, 0) + outer["velocity"]) / 2
    np.testing.assert_allclose(np.sum(middle * steps), -flow.circulation, rtol=1e-4)
    assert abs(np.sum(middle[:, 0] * steps[:, 1] - middle[:, 1] * steps[:, 0])) < 1e-4
    # Kutta and Joukowski: the force on the wall is perpendicular to the stream and as large as the circulation.
    edges = (np.roll(wall["points"], -1, 0) - wall["points"]).astype(np.float64)
    pressure = (np.roll(wall["pressure"], -1, 0) + wall["pressure"]) / 2
    force = np.array([-np.sum(pressure * edges[:, 1]), np.sum(pressure * edges[:, 0])]) / 2
    np.testing.assert_allclose(force, flow.circulation * np.array([-np.sin(0.1), np.cos(0.1)]), atol=2e-3)
    tail = wall["velocity"][np.argmax(wall["points"][:, 0])]
    assert np.linalg.norm(tail) < 0.3
    assert flow.circulation > 0


def test_triangles_fill_the_ring():
    ring, triangles = ring_mesh(50, 7)
    assert np.unique(triangles).size == len(ring) == 350
    place = ring[:, :1] * np.stack([np.cos(ring[:, 1]), np.sin(ring[:, 1])], axis=-1)
    a, b, c = (place[triangles[:, corner]] for corner in range(3))
    areas = 0.5 * ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])
    assert (areas > 0).all()
    np.testing.assert_allclose(areas.sum(), np.pi * (16 - 1), rtol=0.01)


@pytest.mark.parametrize("kind", example.FORMATS)
def test_written_samples(tmp_path, kind, capsys):
    if kind == "vtu":
        pytest.importorskip("pyvista")
    assert example.main([f"--out={tmp_path}", "--num=7", f"--format={kind}"]) == 0
    path = tmp_path / "ellipses.h5" if kind == "h5" else tmp_path
    assert f"7 samples in {path}" in capsys.readouterr().out
    samples = find_samples(path)
    assert {name: len(references) for name, references in samples.items()} == {"train": 6, "test": 1}
    read = [read_sample(reference, FIELDS) for reference in samples["train"]]
    assert len({len(one) for one in read}) > 1
    assert any(name.startswith("cells_triangle") for name in all_arrays(read_contents(samples["train"][0])))
    assert np.ptp(read[0].inputs["angle"]) == 0
    assert read[0].inputs["angle"][0] != read[1].inputs["angle"][0]


def test_a_sample_does_not_depend_on_how_many_there_are(tmp_path):
    for num in (2, 5):
        example.write_example(tmp_path / str(num), num, "npz")
    one, other = (np.load(tmp_path / f"{num}/train/ellipse_0000.npz") for num in (2, 5))
    np.testing.assert_array_equal(one["pressure"], other["pressure"])
    with pytest.raises(SystemExit):
        example.main([f"--out={tmp_path}", "--num=1"])


def test_samples_of_another_number_are_not_mixed(tmp_path, capsys):
    """Of more samples other ones test, which would then be in both splits."""
    assert main([f"--out={tmp_path}", "--num=4"]) == main([f"--out={tmp_path}", "--num=4"]) == 0
    assert main([f"--out={tmp_path}", "--num=3"]) == 2
    assert "holds other samples, such as t" in capsys.readouterr().err
    assert len(list(tmp_path.glob("*/*"))) == 4

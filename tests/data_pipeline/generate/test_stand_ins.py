"""The stand-ins: layout, bounds, nesting, closed surfaces."""

import numpy as np
import pytest

from data_pipeline.generate import GENERATORS, bodies, drivaerml, generate, shapenet_car
from data_pipeline.generate.generator import load_generator
from data_pipeline.registry import find_record


@pytest.mark.parametrize("name", ["drivaerml_10k", "drivaerml_1m", "shapenet_car", "nasa_crm"])
def test_stand_ins_say_so(name):
    assert load_generator(GENERATORS[name]).solver.startswith("SYNTHETIC STAND-IN")


def test_normals_are_those_of_the_surface():
    body = bodies.Superellipsoid(np.array([1.0, 0.0, 2.0]), np.array([2.0, 1.0, 0.5]), 3.5)
    points = body.surface(np.random.default_rng(0).standard_normal((50, 3)))
    np.testing.assert_allclose(body.level(points), 1.0)
    normals = body.normals(points)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1.0)
    assert (body.level(points + 1e-4 * normals) > 1.0).all()
    tangent = np.cross(normals, [0.3, 0.5, 0.8])
    np.testing.assert_allclose(body.level(points + 1e-6 * tangent), 1.0, atol=1e-8)


def test_pressure_stagnates_in_front_and_recovers_a_little_behind():
    front, side, back, below = np.array([[-1.0, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, -1]])
    values = bodies.pressure_coefficient(np.stack([front, side, back, below]), 0, 2, 1.4)
    np.testing.assert_allclose(values, [1.0, -0.4, 1.0 - 1.4 * 0.85, -0.55])
    shear = bodies.wall_shear(np.stack([front, side]), 0)
    np.testing.assert_allclose(shear, [[0, 0, 0], [0.003, 0, 0]], atol=1e-15)


def test_points_of_smaller_variants_are_the_first_of_larger_ones():
    small, large = (drivaerml.solve_run(0, 3, count) for count in (10_000, 40_000))
    for name, values in small.items():
        np.testing.assert_array_equal(values, large[name][:10_000])
    other = drivaerml.solve_run(0, 4, 10_000)
    assert not np.allclose(other["surface_fields"], small["surface_fields"])


def test_drivaerml_files_have_the_bounds_and_scales_of_the_public_ones(tmp_path):
    folder = generate("drivaerml_10k", tmp_path, num=6, workers=1, progress=False)
    assert sorted(path.name for path in folder.iterdir()) == ["SOURCE.json", "test", "train"]
    with np.load(folder / "train" / "run_1.npz") as run:
        assert {name: (run[name].shape, run[name].dtype.name) for name in run.files} == {
            "surface_mesh_centers": ((10_000, 3), "float32"),
            "surface_fields": ((10_000, 4), "float32"),
        }
    loaded = find_record("drivaerml_10k").load(tmp_path, 5, 1)
    assert loaded.source.kind == "generated"
    assert loaded.train.x.min() >= -1e-6  # the bounds are rounded to float32 in the files
    assert loaded.train.x.max() <= 1.0 + 1e-6
    pressure = loaded.y_normalizer.encode(loaded.train.y)
    assert abs(pressure.mean()) < 0.4
    assert 0.7 < pressure.std() < 1.4


def test_car_surface_is_closed_and_faces_outwards():
    points, quads = shapenet_car.box_surface()
    assert points.shape == (3586, 3)
    edges = np.concatenate([quads[:, [k, (k + 1) % 4]] for k in range(4)])
    forwards, backwards = ({tuple(edge) for edge in ends.tolist()} for ends in (edges, edges[:, ::-1]))
    assert len(forwards) == len(edges)
    assert forwards == backwards
    body = shapenet_car.shape(np.random.default_rng(1))
    normals = shapenet_car.vertex_normals(body, quads)
    assert ((body - body.mean(axis=0)) * normals).sum(axis=1).mean() > 0.3
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1.0)


def test_car_files(tmp_path):
    folder = generate("shapenet_car", tmp_path, num=10, workers=1, progress=False)
    cases = [case for part in range(9) for case in sorted((folder / f"param{part}").iterdir())]
    assert [case.name for case in cases] == [f"synthetic_{number:06d}" for number in range(10)]
    pressure = np.load(cases[7] / "press.npy")
    assert pressure.shape == (3682,)
    words = (cases[7] / "quadpress_smpl.vtk").read_text().split()
    start = words.index("POINTS")
    assert words[start + 1 : start + 3] == ["3682", "float"]
    points = np.array(words[start + 3 : start + 3 + 3 * 3682], np.float32).reshape(-1, 3)
    begin = words.index("CELLS")
    quads = np.array(words[begin + 3 : begin + 3 + 5 * 3584], int).reshape(-1, 5)
    assert (quads[:, 0] == 4).all()
    used = np.unique(quads[:, 1:])
    np.testing.assert_array_equal(np.setdiff1d(np.arange(3682), used), np.arange(16, 112))
    expected = shapenet_car.solve_case(0, 7)
    np.testing.assert_allclose(points[used], expected["points"][used], atol=1e-5)
    scaled = (pressure[used] + 36.3099) / 48.5743
    assert abs(scaled.mean()) < 1.0
    assert 0.3 < scaled.std() < 1.5
    low, high = np.array([-2.0, -1.0, -4.5]), np.array([2.0, 4.5, 6.0])
    assert ((points[used] > low) & (points[used] < high)).all()

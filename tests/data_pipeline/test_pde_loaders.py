"""Every loader on miniature files of the true layout: shapes, order, splits, statistics, errors."""

import json

import numpy as np
import pytest

from data_pipeline.custom.readers import Reference, read_contents
from data_pipeline.custom.sample import make_sample
from data_pipeline.errors import DataError
from data_pipeline.pde import drivaerml, lpbf, shapenet_car
from data_pipeline.pde.grids import grid_points
from data_pipeline.registry import DATASETS, load_dataset
from experiments.predict.signature import signature_of
from tests.data_pipeline import fake_files


def load(name, data_dir, n_train, n_test, source="files", **options):
    return load_dataset(name, data_dir, source=source, num_generate=1, n_train=n_train, n_test=n_test, options=options)


def assert_normalizes(normalizer, values):
    """The statistics are those of `values` [..., C], with ddof 1."""
    flat = np.asarray(values, np.float64).reshape(-1, values.shape[-1])
    np.testing.assert_allclose(normalizer.mean, flat.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(normalizer.std, flat.std(0, ddof=1) + 1e-8, rtol=1e-5)


def test_grid_points_of_all_grids():
    """Coordinate 0 along the last axis, coordinate 1 along the first, last axis fastest."""
    points = grid_points(3, 5).reshape(3, 5, 2)
    np.testing.assert_allclose(points[1, 2], [2 / 4, 1 / 2])
    np.testing.assert_array_equal(points[0, :, 1], 0)


@pytest.mark.parametrize("hdf5", [False, True])
def test_darcy(tmp_path, hdf5):
    raw = fake_files.write_darcy(tmp_path, hdf5=hdf5)
    dataset = load("darcy", tmp_path, 4, 2, side=5)
    train, test = dataset.train, dataset.tests["test"]
    assert (train.x.shape, train.y.shape, test.x.shape) == ((4, 25, 3), (4, 25, 1), (2, 25, 3))
    assert train.x.dtype == train.y.dtype == np.float32
    assert (dataset.c_in, dataset.c_out, dataset.grid_shape, dataset.kind) == (3, 1, (5, 5), "steady")
    # Node (i, j) of the grid is node (3 i, 3 j) of the file; the test is the beginning of the second file.
    np.testing.assert_allclose(train.y[0].reshape(5, 5), raw["sol"][0, ::3, ::3], rtol=1e-6)
    np.testing.assert_allclose(test.y[1].reshape(5, 5), raw["sol"][7, ::3, ::3], rtol=1e-6)
    decoded = dataset.x_normalizer.decode(test.x[0])
    np.testing.assert_allclose(decoded[:, 2].reshape(5, 5), raw["coeff"][6, ::3, ::3], rtol=1e-5)
    np.testing.assert_array_equal(train.x[0, :, :2], grid_points(5, 5))
    assert_normalizes(dataset.y_normalizer, raw["sol"][:4, ::3, ::3, None])
    np.testing.assert_allclose(train.x[..., 2].std(ddof=1), 1, rtol=1e-4)
    with pytest.raises(DataError, match=r"data.side=8 does not subsample the 13 x 13 points .* side - 1 divides 12"):
        load("darcy", tmp_path, 4, 2, side=8)
    with pytest.raises(DataError, match=r"data.n_test=7"):
        load("darcy", tmp_path, 4, 7, side=5)


@pytest.mark.parametrize("hdf5", [False, True])
def test_navier_stokes(tmp_path, hdf5):
    u = fake_files.write_navier_stokes(tmp_path, hdf5=hdf5)
    dataset = load("navier_stokes", tmp_path, 3, 2)
    train, test = dataset.train, dataset.tests["test"]
    assert (train.x.shape, train.fx.shape, train.y.shape) == ((3, 36, 2), (3, 36, 10), (3, 36, 10, 1))
    assert (dataset.kind, dataset.c_in, dataset.fun_dim, dataset.c_out) == ("autoregressive", 2, 10, 1)
    np.testing.assert_array_equal(test.fx[1].reshape(6, 6, 10), u[-1, ..., :10])
    np.testing.assert_array_equal(test.y[0, ..., 0].reshape(6, 6, 10), u[-2, ..., 10:])
    np.testing.assert_array_equal(dataset.times, np.arange(11, 21))
    np.testing.assert_array_equal(dataset.y_normalizer.encode(train.y), train.y)
    normalized = load("navier_stokes", tmp_path, 3, 2, normalize=True, history=4, steps=2)
    assert normalized.train.y.shape == (3, 36, 2, 1)
    assert_normalizes(normalized.y_normalizer, u[:3, ..., :6, None])
    np.testing.assert_array_equal(normalized.train.y[0, :, 0, 0], u[0, ..., 4].reshape(-1))
    with pytest.raises(DataError, match=r"data.history=15 and data.steps=10 .* at most the 20 frames"):
        load("navier_stokes", tmp_path, 3, 2, history=15)


def test_plasticity_points_belong_to_their_fields(tmp_path):
    raw = fake_files.write_plasticity(tmp_path)
    dataset = load("plasticity", tmp_path, 3, 2)
    train, test = dataset.train, dataset.tests["test"]
    assert (train.x.shape, train.fx.shape, train.y.shape) == ((3, 3131, 2), (3, 3131, 1), (3, 3131, 4, 4))
    assert (dataset.kind, dataset.grid_shape, dataset.has_time) == ("time_conditioned", (101, 31), True)
    np.testing.assert_allclose(dataset.times, np.linspace(0, 1, 4), rtol=1e-6)
    material = train.y[0, ..., :2] - train.y[0, ..., 2:]
    np.testing.assert_allclose(material, np.broadcast_to(material[:, :1], material.shape), atol=1e-5)
    # The block is x = 0.35 - i / 2, y = 14.9 - j / 2: coordinate 1 goes with x and coordinate 0 with y.
    for coordinate, reference in ((1, 0), (0, 1)):
        correlation = np.corrcoef(train.x[0, :, coordinate], material[:, 0, reference])[0, 1]
        np.testing.assert_allclose(correlation, -1, atol=1e-6)
    np.testing.assert_allclose(train.x[0, 31 * 7 + 4], [4 / 30, 7 / 100], rtol=1e-6)
    np.testing.assert_allclose(test.y[-1, 31 * 7 + 4], raw["output"][-1, 7, 4], rtol=1e-6)
    profile = raw["input"][:3]
    encoded = (profile - profile.mean()) / profile.std(ddof=1)
    np.testing.assert_allclose(train.fx[1, 31 * 7 : 31 * 8, 0], encoded[1, 7], rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "write", "channel", "normalized"),
    [("pipe", fake_files.write_pipe, 0, True), ("airfoil_steady", fake_files.write_airfoil, 4, False)],
)
def test_curvilinear_sets(tmp_path, name, write, channel, normalized):
    x, y, q = write(tmp_path)
    dataset = load(name, tmp_path, 3, 2)
    train, test = dataset.train, dataset.tests["test"]
    assert (train.x.shape, train.y.shape, dataset.grid_shape) == ((3, 35, 2), (3, 35, 1), (7, 5))
    assert train.x.dtype == train.y.dtype == np.float32
    np.testing.assert_allclose(test.y[-1].reshape(7, 5), q[-1, channel], rtol=1e-6)
    decoded = dataset.x_normalizer.decode(test.x[0]).reshape(7, 5, 2)
    np.testing.assert_allclose(decoded[3, 2], [x[-2, 3, 2], y[-2, 3, 2]], rtol=1e-5)
    assert_normalizes(dataset.y_normalizer, q[:3, channel, ..., None])
    if normalized:
        assert_normalizes(dataset.x_normalizer, np.stack([x, y], axis=-1)[:3])
    else:
        np.testing.assert_array_equal(train.x, dataset.x_normalizer.decode(train.x))
    with pytest.raises(DataError, match=r"fewer than data.n_train=5 plus data.n_test=2"):
        load(name, tmp_path, 5, 2)


def test_only_the_first_1200_pipes_are_used(tmp_path):
    _, _, q = fake_files.write_pipe(tmp_path, samples=1210, shape=(2, 2))
    test = load("pipe", tmp_path, 1000, 200).tests["test"]
    assert len(test) == 200
    np.testing.assert_allclose(test.y[-1].reshape(2, 2), q[1199, 0], rtol=1e-6)


def _small_drivaerml(monkeypatch):
    monkeypatch.setitem(drivaerml.SIZES, "10k", 7)


def test_drivaerml_runs_in_the_order_of_their_numbers(tmp_path, monkeypatch):
    _small_drivaerml(monkeypatch)
    fake_files.write_drivaerml(tmp_path, "10k", 7, {"train": (10, 2, 33, 1), "test": (4, 111)})
    dataset = load("drivaerml_10k", tmp_path, 3, 2)
    np.testing.assert_array_equal(dataset.train.y[:, 0, 0], [1, 2, 10])
    assert dataset.source.detail["runs"] == {"train": ["run_1", "run_2", "run_10"], "test": ["run_4", "run_111"]}
    assert (dataset.train.x.shape, dataset.train.mask, dataset.space_dim) == ((3, 7, 3), None, 3)
    raw = np.load(tmp_path / "DrivAerML" / "drivaerml_surface_presampled_10k" / "test" / "run_111.npz")
    test = dataset.tests["test"]
    low, high = np.array(drivaerml.LOW), np.array(drivaerml.HIGH)
    np.testing.assert_allclose(test.x[1], (raw["surface_mesh_centers"] - low) / (high - low), rtol=1e-5)
    np.testing.assert_array_equal(test.y[1, :, 0], raw["surface_fields"][:, 0])
    np.testing.assert_allclose(dataset.y_normalizer.encode(np.float32(-229.845718 + 269.598572)), 1, rtol=1e-5)


def test_drivaerml_of_another_size(tmp_path, monkeypatch):
    _small_drivaerml(monkeypatch)
    fake_files.write_drivaerml(tmp_path, "10k", 8, {"train": (1,), "test": (2,)})
    with pytest.raises(DataError, match=r"has 8 points where 7 are expected"):
        load("drivaerml_10k", tmp_path, 1, 1)
    (tmp_path / "DrivAerML" / "drivaerml_surface_presampled_10k" / "test" / "run_2.npz").unlink()
    with pytest.raises(DataError, match=r"holds no run_\*.npz"):
        load("drivaerml_10k", tmp_path, 1, 1)


def test_lpbf(tmp_path):
    fake_files.write_lpbf(tmp_path, {"train": (140, 20, 260, 30), "test": (50, 7)})
    dataset = load("lpbf", tmp_path, 4, 2, buckets=2)
    assert dataset.bucket_sizes == (128, 384)
    assert dataset.train.x.shape == (4, 384, 3)
    np.testing.assert_array_equal(dataset.train.mask.sum(1), [140, 20, 260, 30])
    assert dataset.tests["test"].x.shape == (2, 50, 3)
    raw = np.load(tmp_path / "LPBF_FLARE" / "train" / "case_001.npz")
    np.testing.assert_allclose(dataset.train.x[1, :20], raw["pos"] / [30, 30, 60], rtol=1e-5)
    np.testing.assert_allclose(dataset.train.y[1, :20, 0], raw["disp"][:, 2], rtol=1e-6)
    assert not dataset.train.y[1, 20:].any()
    # The fields are compared as they are, not through the statistics that the original attaches by mistake.
    np.testing.assert_array_equal(dataset.y_normalizer.decode(dataset.train.y), dataset.train.y)
    several = load("lpbf", tmp_path, 4, 2, fields="vm, disp_z,temp")
    np.testing.assert_allclose(several.train.y[1, :20, 0], raw["vmstr"][:, 0] / 1000, rtol=1e-5)
    np.testing.assert_allclose(several.train.y[1, :20, 2], raw["temp"][:, 0] / 500, rtol=1e-5)
    with pytest.raises(DataError, match=r"data.fields='disp_x' is not understood; name some of disp_z, vm, temp"):
        load("lpbf", tmp_path, 4, 2, fields="disp_x")
    assert lpbf.RECORD.n_train + lpbf.RECORD.n_test == 1390
    assert several.sample_names["test"] == ["case_000", "case_001"]


@pytest.mark.parametrize("name", ["lpbf", "drivaerml"])
def test_published_files_of_one_sample_fit_models_trained_on_them(tmp_path, name, monkeypatch):
    """What a model gets and gives for a file is what the loader made of it."""
    if name == "lpbf":
        fake_files.write_lpbf(tmp_path, {"train": (140, 20), "test": (50,)})
        dataset, path = load("lpbf", tmp_path, 2, 1, fields="vm,disp_z"), "LPBF_FLARE/train/case_001.npz"
        raw = np.load(tmp_path / path)
        expected = {"vm": raw["vmstr"], "disp_z": raw["disp"][:, 2:]}
    else:
        _small_drivaerml(monkeypatch)
        fake_files.write_drivaerml(tmp_path, "10k", 7, {"train": (1, 2), "test": (4,)})
        dataset = load("drivaerml_10k", tmp_path, 2, 1)
        (path,) = (p for p in tmp_path.rglob("train/*.npz") if p.stem == dataset.sample_names["train"][1])
        expected = {"mean_surface_pressure": np.load(path)["surface_fields"][:, :1]}
    reference = Reference(tmp_path / path)
    signature = signature_of(dataset)
    contents = read_contents(reference)
    found = make_sample("a", contents, signature.fields(contents.present), "a", targets_wanted=False)
    count = len(found)
    features = signature.codec.encode(found.points, found.inputs)
    np.testing.assert_allclose(features, dataset.train.x[1, :count], rtol=1e-5, atol=1e-6)
    given = dataset.channels.split(dataset.train.y[1, :count])
    for field, values in expected.items():
        np.testing.assert_allclose(found.targets[field], values, rtol=1e-5)
        np.testing.assert_allclose(given[field], values, rtol=1e-5)


def test_shapenet_car_split():
    source = load_source("public files")
    train, test = shapenet_car.split_cases(889, 700, 189, source, "there")
    assert (len(train), len(test)) == (700, 189)
    assert not set(train) & set(test)
    assert (list(test[:3]), test[-1]) == ([4, 5, 8], 878)
    train, test = shapenet_car.split_cases(889, 10, 5, source, "there")
    assert (list(train), list(test)) == ([0, 1, 2, 3, 6, 7, 9, 10, 12, 13], [4, 5, 8, 11, 14])
    with pytest.raises(DataError, match=r"there holds 888 complete cases, but the public split numbers 889"):
        shapenet_car.split_cases(888, 700, 189, source, "there")
    train, test = shapenet_car.split_cases(6, 3, 2, load_source("generated"), "there")
    assert (list(train), list(test)) == ([0, 1, 2], [4, 5])


def load_source(kind):
    from data_pipeline.dataset import Source

    return Source(kind, "there")


@pytest.mark.parametrize("unpacked", ["", "training_data", "mlcfd_data/training_data"])
def test_shapenet_car(tmp_path, unpacked):
    root = tmp_path / "ShapeNet-Car" / unpacked
    for number in range(9):
        fake_files.write_car(root / f"param{number}" / ("b" if number else "z"), number)
    fake_files.write_car(root / "param0" / "a", 10)
    fake_files.write_car(root / "param0" / "incomplete", 11)
    (root / "param0" / "incomplete" / "quadpress_smpl.vtk").unlink()
    (root / "SOURCE.json").write_text(json.dumps({"generated": True, "solver": "test", "seed": 0}))
    assert shapenet_car.root(tmp_path) == root
    names = [(case.parent.name, case.name) for case in shapenet_car.case_folders(root)]
    assert names[:3] == [("param0", "a"), ("param0", "z"), ("param1", "b")]
    pytest.importorskip("meshio")
    dataset = load("shapenet_car", tmp_path, 3, 2)
    assert (dataset.train.x.shape, dataset.train.y.shape) == ((3, 8, 3), (3, 8, 1))
    # The pressure of point p of car c is 100 c + p, and point 2 belongs to no quadrilateral.
    np.testing.assert_array_equal(dataset.train.y[..., 0] % 100, [[0, 1, 3, 4, 5, 6, 7, 8]] * 3)
    np.testing.assert_array_equal(dataset.train.y[:, 0, 0] // 100, [10, 0, 1])
    np.testing.assert_array_equal(dataset.tests["test"].y[:, 0, 0] // 100, [7, 8])
    np.save(root / "param0" / "a" / "press.npy", np.zeros(8))
    with pytest.raises(DataError, match=r"press.npy holds 8 values for the 9 points"):
        load("shapenet_car", tmp_path, 3, 2)
    points = np.random.default_rng(10).uniform(-1, 1, (9, 3))
    np.testing.assert_allclose(dataset.train.x[0, 0], (points[0] - [-2, -1, -4.5]) / [4, 5.5, 10.5], atol=1e-6)


@pytest.mark.parametrize("name", ["cylinder_flow", "airfoil_dynamic"])
def test_mesh_series(tmp_path, name):
    raw = fake_files.write_mesh_series(tmp_path, name, {"train": (9, 140, 12), "test": (6,), "valid": (7, 8)})
    dataset = load(name, tmp_path, 3, 1, skip_steps=2, max_steps=5, buckets=2)
    assert (dataset.kind, dataset.bucket_sizes, list(dataset.tests)) == ("mesh_series", (128, 256), ["test", "valid"])
    train = dataset.train
    assert (train.x.shape, train.y.shape) == ((3, 256, 9), (3, 256, 5, 2))
    assert (dataset.c_in, dataset.fun_dim, dataset.c_out) == (9, 2, 2)
    np.testing.assert_array_equal(train.mask.sum(1), [9, 140, 12])
    np.testing.assert_allclose(dataset.times, [0.02, 0.03, 0.04, 0.05, 0.06], rtol=1e-5)
    case = raw["train"][2]
    types = case["node_type"][0, :, 0]
    np.testing.assert_array_equal(train.y[2, :12], case["velocity"][2:7].transpose(1, 0, 2))
    np.testing.assert_array_equal(train.x[2, :12, 2:].argmax(-1), types)
    np.testing.assert_array_equal(train.free[2, :12], (types == 0) | (types == 5))
    assert not train.free[2, 12:].any()
    assert 0 <= train.x[..., :2].min() <= train.x[..., :2].max() <= 1
    np.testing.assert_allclose(dataset.positions(train, 2)[:12], case["mesh_pos"][0], atol=1e-6)


def test_mesh_statistics_count_every_real_node_once(tmp_path):
    raw = fake_files.write_mesh_series(tmp_path, "cylinder_flow", {"train": (9, 14), "test": (6,)})["train"]
    dataset = load("cylinder_flow", tmp_path, 2, 1, skip_steps=1, max_steps=9)
    velocities = [case["velocity"][1:].astype(np.float64) for case in raw]
    assert_normalizes(dataset.y_normalizer, np.concatenate([velocity.reshape(-1, 2) for velocity in velocities]))
    free = [np.isin(case["node_type"][0, :, 0], (0, 5)) for case in raw]
    steps = [np.diff(v, axis=0)[:, chosen].reshape(-1, 2) for v, chosen in zip(velocities, free, strict=True)]
    assert_normalizes(dataset.increment_normalizer, np.concatenate(steps))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"skip_steps": 7}, "skip_steps=7 leaves fewer than two"),
        ({"skip_steps": -1}, "data.skip_steps is -1 but must be an integer of at least 0"),
        ({"max_steps": 1}, "data.max_steps is 1 but must be an integer of at least 2"),
        ({"buckets": 0}, "data.buckets is 0 but must be an integer of at least 1"),
    ],
)
def test_bad_options_of_mesh_series(tmp_path, options, words):
    fake_files.write_mesh_series(tmp_path, "cylinder_flow", {"train": (9,), "test": (6,)})
    with pytest.raises(DataError, match=words):
        load("cylinder_flow", tmp_path, 1, 1, **{"skip_steps": 0, **options})


def test_damaged_mesh_series(tmp_path):
    fake_files.write_mesh_series(tmp_path, "cylinder_flow", {"train": (9,), "test": (6,)})
    with pytest.raises(DataError, match=r"data.n_train=2, but .* holds 1 cases"):
        load("cylinder_flow", tmp_path, 2, 1, skip_steps=0)
    meta = tmp_path / "MeshGraphNets" / "cylinder_flow" / "meta.json"
    content = json.loads(meta.read_text())
    content["features"]["velocity"]["shape"] = [7, -1, 3]
    meta.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"velocity of case 0 .* does not have the shape"):
        load("cylinder_flow", tmp_path, 1, 1, skip_steps=0)
    del content["features"]["velocity"]
    meta.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"does not describe mesh_pos, node_type, velocity"):
        load("cylinder_flow", tmp_path, 1, 1, skip_steps=0)


@pytest.mark.parametrize("name", sorted(set(DATASETS) - {"custom"}))
def test_missing_files_say_where_to_get_them(tmp_path, name):
    with pytest.raises(DataError, match=f"^{name}: .* not found in .*; get the files from ") as raised:
        load(name, tmp_path, 1, 1)
    assert ("python -m data_pipeline.generate" in str(raised.value)) == (DATASETS[name].generator is not None)


def test_stand_ins_are_made_only_on_request(tmp_path, monkeypatch):
    import data_pipeline.generate as generators

    calls = []
    monkeypatch.setattr(generators, "generate", lambda *arguments, **settings: calls.append((arguments, settings)))
    with pytest.raises(DataError, match=r"artificial stand-ins, run `.* shapenet_car --num=1 .*` or set data.source"):
        load("shapenet_car", tmp_path, 1, 1, source="auto")
    assert not calls
    with pytest.raises(DataError):  # the replaced generator writes nothing
        load_dataset("shapenet_car", tmp_path, source="generated", num_generate=3, resolution=5, n_train=1, n_test=1)
    assert calls == [(("shapenet_car", tmp_path), {"num": 3, "seed": 0, "resolution": 5})]


def test_options_that_a_loader_does_not_have(tmp_path):
    with pytest.raises(DataError, match=r"data set pipe has no option 'side'; its options are none"):
        load("pipe", tmp_path, 1, 1, side=3)

"""A user's folder as a data set: splits, scaling, padding, and the same numbers from memory and from disk."""

import numpy as np
import pytest

from data_pipeline import inspect
from data_pipeline.custom.folder import find_samples
from data_pipeline.custom.loader import StreamedDataset
from data_pipeline.dataset import PDEDataset
from data_pipeline.errors import DataError
from data_pipeline.registry import load_dataset
from data_pipeline.streaming.rows import is_stored
from tests.data_pipeline.custom.files import sample, write_h5, write_npz

NAMES = {"inputs": "speed", "targets": "pressure,velocity"}


def load(data_dir, path, n_train=0, n_test=0, **options):
    settings = {"source": "files", "num_generate": 1, "n_train": n_train, "n_test": n_test}
    return load_dataset("custom", data_dir, **settings, options={"path": str(path), **NAMES, **options})


@pytest.fixture
def folder(tmp_path):
    write_npz(tmp_path / "own", {"train": (5, 9, 7), "test": (6, 8), "test_far": (4,)})
    return tmp_path / "own"


def _arrays(dataset):
    splits = {"train": dataset.train, **dataset.tests}
    return {(s, name): np.asarray(array) for s, split in splits.items() for name, array in split.arrays().items()}


def test_splits_and_scaling(tmp_path, folder):
    dataset = load(tmp_path, folder, buckets=1)
    assert {name: len(split) for name, split in dataset.tests.items()} == {"test": 2, "test_far": 1}
    assert dataset.train.x.shape == (3, 9, 3)
    assert dataset.train.y.shape == (3, 9, 3)
    assert (dataset.space_dim, dataset.kind, dataset.source.kind) == (2, "steady", "own files")
    raw = [sample(number, size) for number, size in enumerate((5, 9, 7))]
    points = np.concatenate([one["points"] for one in raw])
    pressures = np.concatenate([one["pressure"] for one in raw])
    velocities = np.concatenate([one["velocity"] for one in raw])
    real = dataset.train.x[dataset.train.mask]
    np.testing.assert_allclose(real[:, :2], (points - points.mean(0)) / points.std(0, ddof=1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(dataset.x_normalizer.decode(real)[:, :2], points, rtol=1e-5)
    speeds = np.repeat([0, 1, 2], (5, 9, 7))
    np.testing.assert_allclose(real[:, 2], (speeds - speeds.mean()) / speeds.std(ddof=1), rtol=1e-5, atol=1e-6)
    scales = [pressures.std(ddof=1), *[np.sqrt(velocities.var(0, ddof=1).sum())] * 2]
    np.testing.assert_allclose(dataset.source.detail["target_scales"], scales, rtol=1e-12)
    fields = np.column_stack([pressures, velocities])
    np.testing.assert_allclose(dataset.in_units(dataset.train.y[1]), fields[5:14], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dataset.offset * scales, fields.mean(0), rtol=1e-9)
    np.testing.assert_array_equal(dataset.y_normalizer.mean, 0)
    np.testing.assert_allclose(dataset.y_normalizer.std[0], 1, rtol=1e-12)
    assert dataset.source.detail["samples"]["test"] == ["run_3", "run_4"]


@pytest.mark.parametrize("unit", [1e18, 3e18, 1e-19])
def test_one_field_is_scaled_like_several(tmp_path, folder, unit):
    plain = load(tmp_path, folder, targets="pressure")
    (scale,) = plain.source.detail["target_scales"]
    pressure = sample(0, 5)["pressure"]
    np.testing.assert_allclose(plain.in_units(plain.train.y[0, :5])[:, 0], pressure, rtol=0, atol=1e-6)
    assert plain.target_name == "pressure"
    for path in folder.rglob("*.npz"):
        content = dict(np.load(path))
        np.savez(path, **{**content, "pressure": unit * content["pressure"]})
    scaled = load(tmp_path, folder, targets="pressure")
    np.testing.assert_allclose(scaled.source.detail["target_scales"], [unit * scale], rtol=1e-6)
    np.testing.assert_allclose(scaled.train.y, plain.train.y, rtol=1e-5, atol=1e-6)
    for part in ("mean", "std"):
        np.testing.assert_allclose(*(getattr(one.y_normalizer, part) for one in (scaled, plain)), rtol=1e-5)


def test_streamed_and_loaded_arrays_are_the_same(tmp_path, folder):
    loaded, streamed = (load(tmp_path, folder, stream=stream) for stream in ("never", "always"))
    assert type(loaded) is PDEDataset
    assert type(streamed) is StreamedDataset
    assert is_stored(streamed.train.arrays())
    expected, found = _arrays(loaded), _arrays(streamed)
    assert set(expected) == set(found)
    assert ("test", "mask") in found
    for key, array in expected.items():
        np.testing.assert_array_equal(array, found[key])
        assert array.dtype == found[key].dtype
    for name in ("x_normalizer", "y_normalizer"):
        np.testing.assert_array_equal(getattr(loaded, name).mean, getattr(streamed, name).mean)
        np.testing.assert_array_equal(getattr(loaded, name).std, getattr(streamed, name).std)
    assert (loaded.bucket_sizes, loaded.max_length) == (streamed.bucket_sizes, streamed.max_length)
    np.testing.assert_allclose(loaded.input_bounds(), streamed.input_bounds(), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(loaded.positions(loaded.train, 1), streamed.positions(streamed.train, 1), rtol=1e-6)


def test_streaming_is_chosen_by_size(tmp_path, folder):
    assert not is_stored(load(tmp_path, folder, memory_gib=1.0).train.arrays())
    assert is_stored(load(tmp_path, folder, memory_gib=1e-9).train.arrays())
    assert not is_stored(load(tmp_path, folder, memory_gib=1e-9, stream="never").train.arrays())


def test_cache_is_written_once_and_again_when_files_change(tmp_path, folder):
    before = load(tmp_path, folder, stream="always", cache=str(tmp_path / "fast"))
    (cache,) = (tmp_path / "fast").iterdir()
    assert cache.name.startswith("own-")
    written = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    same = load(tmp_path, folder, stream="always", cache=str(tmp_path / "fast"))
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == written
    assert before.fingerprint() == same.fingerprint()
    np.savez(folder / "train" / "run_0.npz", **sample(50, 5))
    changed = load(tmp_path, folder, stream="always", cache=str(tmp_path / "fast"))
    assert len(list((tmp_path / "fast").iterdir())) == 2
    assert before.fingerprint() != changed.fingerprint()


def test_drawn_tests(tmp_path):
    write_npz(tmp_path / "flat", {"": (5,) * 20})
    datasets = [load(tmp_path, tmp_path / "flat", split_seed=seed) for seed in (0, 0, 1)]
    samples = [dataset.source.detail["samples"] for dataset in datasets]
    assert (len(samples[0]["train"]), len(samples[0]["test"])) == (18, 2)
    assert not set(samples[0]["train"]) & set(samples[0]["test"])
    assert samples[0] == samples[1] != samples[2]
    few = load(tmp_path, tmp_path / "flat", 3, 4).source.detail["samples"]
    assert (len(few["train"]), len(few["test"])) == (3, 4)
    with pytest.raises(DataError, match=r"holds 20 samples, too few for data.n_train=18 and data.n_test=4"):
        load(tmp_path, tmp_path / "flat", 18, 4)


def test_a_folder_per_case(tmp_path):
    for number in range(3):
        case = tmp_path / "own" / f"case_{number}"
        case.mkdir(parents=True)
        np.savez(case / "flow.npz", **sample(number, 5 + number))
        (case / "log.txt").write_text("converged")
    dataset = load(tmp_path, tmp_path / "own")
    names = {name for chosen in dataset.sample_names.values() for name in chosen}
    assert names == {"case_0", "case_1", "case_2"}
    np.savez(tmp_path / "own" / "case_1" / "mesh.npz", points=np.ones((3, 2)))
    with pytest.raises(DataError, match=r"case_1 holds 2 files of which each may be the sample, flow.npz, mesh.npz;"):
        load(tmp_path, tmp_path / "own")
    assert load(tmp_path, tmp_path / "own", files="flow*").sample_names == dataset.sample_names
    with pytest.raises(DataError, match=r"holds no samples whose names fit data.files='\*.vtu'"):
        load(tmp_path, tmp_path / "own", files="*.vtu")


def test_parts_of_other_files_are_no_samples(tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    write_h5(folder / "a.h5", {"a": 5})
    (folder / "a.xdmf").write_text('<Xdmf><DataItem Format="HDF">a.h5:/data0</DataItem></Xdmf>')
    (folder / "b.pvtu").write_text(
        '<VTKFile><PUnstructuredGrid><Piece Source="b_0.vtu"/></PUnstructuredGrid></VTKFile>'
    )
    (folder / "b_0.vtu").touch()
    (folder / "c.npz").touch()
    assert [one.path.name for one in find_samples(folder)[""]] == ["a.xdmf", "b.pvtu", "c.npz"]


def test_one_file_of_groups(tmp_path):
    write_h5(tmp_path / "all.h5", {"train/run_2": 5, "train/run_10": 7, "test/run_1": 6})
    dataset = load(tmp_path, tmp_path / "all.h5")
    assert dataset.source.detail["samples"] == {"train": ["train_run_2", "train_run_10"], "test": ["test_run_1"]}
    np.testing.assert_array_equal(dataset.train.mask.sum(1), [5, 7])


def test_coordinates_of_a_plane_are_left_out(tmp_path):
    for number in range(4):
        arrays = sample(number, 5, 3)
        arrays["points"][:, 1] = 2.5
        split = tmp_path / "own" / ("train" if number < 3 else "test")
        split.mkdir(parents=True, exist_ok=True)
        np.savez(split / f"{number}.npz", **arrays)
    for stream in ("never", "always"):
        dataset = load(tmp_path, tmp_path / "own", stream=stream)
        assert (dataset.space_dim, dataset.c_in, dataset.source.detail["axes"]) == (2, 3, [0, 2])
        decoded = dataset.positions(dataset.tests["test"], 0)
        np.testing.assert_allclose(decoded, sample(3, 5, 3)["points"][:, [0, 2]], rtol=1e-5)


@pytest.mark.parametrize("stream", ["never", "always"])
def test_samples_of_zeros_are_left_out(tmp_path, folder, stream, capsys):
    zeros = {**sample(1), "pressure": np.zeros(6), "velocity": np.zeros((6, 2))}
    for name in ("train/run_1", "test/run_4"):
        np.savez(folder / f"{name}.npz", **zeros)
    dataset = load(tmp_path, folder, stream=stream)
    assert dataset.sample_names == {"test": ["run_3"], "test_far": ["run_5"], "train": ["run_0", "run_2"]}
    assert (len(dataset.train), len(dataset.tests["test"])) == (2, 1)
    assert "zero everywhere have no relative error; left out are 2: " in capsys.readouterr().out
    np.savez(folder / "test_far" / "run_5.npz", **zeros)
    with pytest.raises(DataError, match=r"targets of all samples in test_far are zero, the first .*run_5.npz"):
        load(tmp_path, folder, stream=stream)


def test_names_with_marks(tmp_path):
    for number in range(3):
        arrays = sample(number, 5 + number)
        (tmp_path / "own").mkdir(exist_ok=True)
        np.savez(
            tmp_path / "own" / f"{number}.npz", **arrays, **{"S:Mises": arrays["pressure"], "U:1": arrays["points"]}
        )
    dataset = load(tmp_path, tmp_path / "own", targets="S:Mises,U:1")
    assert dataset.channels.targets == {"S:Mises": 1, "U:1": 2}


def test_grids(tmp_path):
    write_npz(tmp_path / "grid", {"train": (6, 6), "test": (6,)})
    assert load(tmp_path, tmp_path / "grid", grid="2,3").grid_shape == (2, 3)
    with pytest.raises(DataError, match=r"data.grid=3,3 has 9 points, but a sample has 6"):
        load(tmp_path, tmp_path / "grid", grid="3x3")
    with pytest.raises(DataError, match=r"data.grid='3;3' is not understood"):
        load(tmp_path, tmp_path / "grid", grid="3;3")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": ""}, "data.path='' names no data; .*python -m data_pipeline.custom.example"),
        ({"path": "nowhere"}, "data.path='nowhere' does not exist"),
        ({"stream": "often"}, "data.stream is 'often' but must be one of 'auto', 'always', 'never'; set data.stream"),
        ({"buckets": 0}, "data.buckets is 0 but must be an integer of at least 1"),
        ({"targets": "pressure,heat"}, "run_3.npz has the arrays .* but lacks 'heat'"),
    ],
)
def test_bad_options(tmp_path, folder, options, message):
    with pytest.raises(DataError, match=message):
        load(tmp_path, **{"path": folder, **options})


def test_bad_folders(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no samples; they are files ending in .npz"):
        load(tmp_path, tmp_path / "empty")
    with pytest.raises(DataError, match=r"is one file, which has to be HDF5"):
        load(tmp_path, folder / "train" / "run_0.npz")
    with pytest.raises(DataError, match=r"data.n_train=4, but .*/train holds 3 samples"):
        load(tmp_path, folder, 4)
    np.savez(folder / "stray.npz", **sample(9))
    with pytest.raises(DataError, match=r"has samples outside of train and test, the first stray.npz"):
        load(tmp_path, folder)
    (folder / "stray.npz").unlink()
    np.savez(folder / "train" / "run_1.npz", **{**sample(1), "velocity": np.ones((6, 3))})
    with pytest.raises(DataError, match=r"run_1.npz has the targets .*velocity \(3 channels\), but .*run_3.npz has"):
        load(tmp_path, folder)
    for path in (folder / "test").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"has samples in test_far and train|has samples in train and test_far"):
        load(tmp_path, folder)


@pytest.mark.parametrize(("dimensions", "stream"), [(1, "never"), (2, "always"), (3, "never")])
def test_inspection(tmp_path, capsys, dimensions, stream):
    for number in range(3):
        split = tmp_path / "own" / ("train" if number < 2 else "test")
        split.mkdir(parents=True, exist_ok=True)
        np.savez(split / f"{number}.npz", **sample(number, 5 + number, dimensions))
    settings = {"path": tmp_path / "own", "stream": stream, **NAMES}
    flags = [f"--set={name}={value}" for name, value in settings.items()]
    assert inspect.main(["custom", f"--data_dir={tmp_path}", f"--out={tmp_path / 'a.png'}", *flags]) == 0
    text = capsys.readouterr().out
    assert "own files in" in text
    assert "predicted: pressure (1), velocity (2) from speed (1);" in text
    assert "train: 2 samples, 0 to 1" in text
    assert ("on disk" in text) == (stream == "always")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")

import json

import numpy as np
import pytest

from data_pipeline.dataset import Split
from data_pipeline.errors import DataError
from data_pipeline.files import read_npz, split_ends
from data_pipeline.normalizer import Normalizer
from data_pipeline.pde import darcy_small
from data_pipeline.registry import load_dataset
from tests.experiments.programs import write_darcy_small, write_elasticity


def _elasticity(data_dir, **changes):
    options = {"source": "files", "num_generate": 5, "n_train": 16, "n_test": 6, **changes}
    return load_dataset("elasticity", data_dir, **options)


def test_elasticity_shapes_split_and_units(tmp_path):
    folder = write_elasticity(tmp_path)
    dataset = _elasticity(tmp_path)
    points = np.load(folder / "Random_UnitCell_XY_10.npy")
    stress = np.load(folder / "Random_UnitCell_sigma_10.npy")
    test = dataset.tests["test"]
    assert dataset.train.x.shape == (16, 972, 2)
    assert dataset.train.y.shape == (16, 972, 1)
    assert test.x.shape == (6, 972, 2)
    assert dataset.train.x.dtype == dataset.train.y.dtype == np.float32
    assert (dataset.c_in, dataset.c_out, dataset.max_length) == (2, 1, 972)
    np.testing.assert_array_equal(dataset.train.x[0], points[:, :, 0])  # the first sample, not normalised
    np.testing.assert_array_equal(test.x[-1], points[:, :, -1])  # the test set is the end of the file
    np.testing.assert_array_equal(test.y[-1, :, 0], stress[:, -1])
    np.testing.assert_allclose(dataset.y_normalizer.mean, stress[:, :16].mean(), rtol=1e-6)
    np.testing.assert_allclose(dataset.y_normalizer.std, stress[:, :16].std(ddof=1), rtol=1e-6)
    assert dataset.source.kind == "public files"


def test_generated_files_are_recognised_and_named_as_such(tmp_path):
    folder = write_elasticity(tmp_path)
    (folder / "SOURCE.json").write_text(
        json.dumps({"generated": True, "solver": "s", "solver_version": "1", "seed": 4})
    )
    dataset = _elasticity(tmp_path, source="generated")
    assert dataset.source.kind == "generated"
    assert "NOT the public set" in dataset.source.describe()
    assert " (version " in dataset.source.describe()


def test_auto_generates_what_is_missing(tmp_path, monkeypatch):
    import data_pipeline.generate as generators

    calls = []

    def generate(name, out, num, seed):
        calls.append((name, num, seed))
        write_elasticity(out)

    monkeypatch.setattr(generators, "generate", generate)
    said = []
    _elasticity(tmp_path, source="auto", num_generate=24, generate_seed=3, say=said.append)
    assert calls == [("elasticity", 24, 3)]
    assert "generating 24 samples" in said[0]
    _elasticity(tmp_path, source="auto", say=said.append)
    assert len(calls) == 1  # the second time the files are there


def test_options_of_generation_that_are_asked_for_must_be_those_of_the_data(tmp_path):
    folder = write_elasticity(tmp_path)
    asked = ("num_generate", "generate_seed", "resolution")
    with pytest.raises(DataError, match=r"data.num_generate=24 has no effect, for .* holds public files; leave it out"):
        _elasticity(tmp_path, num_generate=24, asked=asked)
    made = {"solver": "s", "solver_version": "1", "seed": 4, "num": 24, "settings": {"resolution": 16}}
    (folder / "SOURCE.json").write_text(json.dumps(made))
    same = {"num_generate": 24, "generate_seed": 4, "resolution": 16}
    _elasticity(tmp_path, **same, asked=asked)
    _elasticity(tmp_path)  # nothing is asked for
    for name, value, words in (
        ("num_generate", 24, "with 24"),
        ("generate_seed", 4, "with 4"),
        ("resolution", 16, "with 16"),
    ):
        with pytest.raises(DataError, match=rf"data.{name}={value + 1} has no effect, .* generated {words}; leave"):
            _elasticity(tmp_path, **{**same, name: value + 1}, asked=asked)


def test_fingerprint_changes_with_the_data(tmp_path):
    folder = write_elasticity(tmp_path)
    before = _elasticity(tmp_path).fingerprint()
    assert _elasticity(tmp_path).fingerprint() == before
    values = np.load(folder / "Random_UnitCell_sigma_10.npy")
    values[0, 0] += 1
    np.save(folder / "Random_UnitCell_sigma_10.npy", values)
    assert _elasticity(tmp_path).fingerprint() != before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source": "internet"}, "internet"),
        ({"n_train": 0}, "n_train=0"),
        ({"n_test": 25}, "n_test=25"),
        ({"n_train": 30}, "lower these"),
    ],
)
def test_bad_options(tmp_path, changes, words):
    write_elasticity(tmp_path)
    with pytest.raises(DataError, match=words):
        _elasticity(tmp_path, **changes)


def test_unknown_data_set(tmp_path):
    with pytest.raises(DataError, match=r"choose one of airfoil_dynamic, airfoil_steady, .*elasticity"):
        load_dataset("elastic", tmp_path, num_generate=1, n_train=1, n_test=1)


def test_darcy_small_has_coordinates_coefficient_and_two_tests(tmp_path):
    folder = write_darcy_small(tmp_path)
    dataset = load_dataset("darcy_small", tmp_path, num_generate=1, n_train=10, n_test=4)
    assert dataset.train.x.shape == (10, 256, 3)
    assert {name: split.x.shape for name, split in dataset.tests.items()} == {
        "test": (4, 256, 3),
        "test_32": (4, 1024, 3),
    }
    raw = np.load(folder / "darcy_test_32.npz")
    decoded = dataset.x_normalizer.decode(dataset.tests["test_32"].x[-1])
    np.testing.assert_allclose(decoded[:, 2], raw["x"][-1].reshape(-1).astype(np.float32), atol=1e-6)
    # point i · side + j lies at row i, column j
    np.testing.assert_allclose(decoded[3 * 32 + 7, :2], [(3 + 0.5) / 32, (7 + 0.5) / 32], rtol=1e-6)
    np.testing.assert_array_equal(dataset.tests["test_32"].y[-1, :, 0], raw["y"][-1].reshape(-1))
    assert dataset.positions(dataset.train).shape == (10, 256, 2)


def test_darcy_small_statistics_come_from_the_training_samples(tmp_path):
    folder = write_darcy_small(tmp_path)
    dataset = load_dataset("darcy_small", tmp_path, num_generate=1, n_train=6, n_test=4)
    raw = np.load(folder / "darcy_train_16.npz")
    np.testing.assert_allclose(dataset.y_normalizer.mean[0], raw["y"][:6].mean(), rtol=1e-5)


def test_missing_array_and_broken_archive(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones(3))
    with pytest.raises(DataError, match="lacks \\['y'\\]"):
        read_npz(tmp_path / "a.npz", {"x": (3,), "y": (3,)})
    (tmp_path / "b.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:50])
    with pytest.raises(DataError, match="cannot be read"):
        read_npz(tmp_path / "b.npz", {"x": (3,)})
    np.savez(tmp_path / "c.npz", x=np.array([{}]))
    (tmp_path / "d.npz").write_text("no archive")
    for name, words in (("c", r"c.npz\[x\] has dtype object"), ("d", r"d.npz cannot be read as an npz archive \(")):
        with pytest.raises(DataError, match=words):
            read_npz(tmp_path / f"{name}.npz", {"x": (1,)})


def test_single_arrays_are_no_archives(tmp_path):
    np.save(tmp_path / "a.npy", np.ones(3))
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    with pytest.raises(DataError, match=r"a.npz holds one array without a name, .*; write it with np.savez"):
        read_npz(tmp_path / "a.npz", {"x": (3,)})


def test_data_sets_that_cannot_be_generated_say_so(tmp_path):
    with pytest.raises(DataError, match=r"not found.*neuraloperator"):
        load_dataset("darcy_small", tmp_path, num_generate=1, n_train=1, n_test=1)
    assert darcy_small.RECORD.generator is None


def test_normalizer_definition_and_inverse():
    rng = np.random.default_rng(0)
    field = rng.normal(3.0, 2.0, (5, 7, 2)).astype(np.float32)
    normalizer = Normalizer.fit(field)
    flat = field.reshape(-1, 2).astype(np.float64)
    np.testing.assert_allclose(normalizer.std, flat.std(0, ddof=1) + 1e-8, rtol=1e-6)
    np.testing.assert_allclose(normalizer.decode(normalizer.encode(field)), field, atol=1e-5)
    np.testing.assert_array_equal(Normalizer.identity(2).encode(field), field)


def test_statistics_do_not_depend_on_padding():
    rng = np.random.default_rng(0)
    field = rng.normal(size=(4, 6, 1)).astype(np.float32)
    padded = np.concatenate([field, np.full((4, 3, 1), 1e6, np.float32)], axis=1)
    mask = np.arange(9)[None] < np.full((4, 1), 6)
    a, b = Normalizer.fit(field), Normalizer.fit(padded, mask)
    np.testing.assert_allclose(a.mean, b.mean, rtol=1e-6)
    np.testing.assert_allclose(a.std, b.std, rtol=1e-6)


def test_split_must_agree_in_points():
    with pytest.raises(DataError, match="differ in samples or points"):
        Split(np.zeros((2, 3, 1), np.float32), np.zeros((2, 4, 1), np.float32))


def test_ends_do_not_overlap():
    assert split_ends(2000, 1000, 200, "here") == (slice(0, 1000), slice(1800, 2000))

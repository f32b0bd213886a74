"""Files in float64 keep their digits until they are centred: coordinates far from the origin, fields on an offset."""

from dataclasses import replace

import numpy as np
import pytest

from data_pipeline.custom.example import write_example
from data_pipeline.dataset import PDEDataset, Source, Split
from data_pipeline.files import finite
from data_pipeline.normalizer import Normalizer
from data_pipeline.pde import darcy, mesh_series, pipe, plasticity
from data_pipeline.streaming.moments import Moments
from tests.data_pipeline import fake_files
from tests.data_pipeline.custom.test_loader import load as load_own

SHIFT = np.array([5e5, 4.6e6])  # metres east and north in a national grid
ROUNDING = 3e-7  # of values up to 2 in float32


def standardized(values):
    """Return float64 values less their mean over their standard deviation."""
    wide = values.reshape(-1, values.shape[-1])
    return (values - wide.mean(0)) / wide.std(0, ddof=1)


def write_shifted_points(folder):
    """Write samples whose 60 points of each are `random · 20 + shift`; return those of the training."""
    points = np.random.default_rng(0).random((4, 60, 2)) * 20 + SHIFT
    for number, places in enumerate(points):
        split = "test" if number == 3 else "train"
        (folder / split).mkdir(parents=True, exist_ok=True)
        np.savez(folder / split / f"{number}.npz", points=places, pressure=np.sin(places[:, 0]), speed=number + 1.0)
    return points[:3]


@pytest.mark.parametrize("stream", ["never", "always"])
def test_own_points_far_from_the_origin(tmp_path, stream):
    points = write_shifted_points(tmp_path / "data")
    train = load_own(tmp_path, tmp_path / "data", targets="pressure", stream=stream).train
    x = np.asarray(train.x[:])
    assert x.dtype == np.float32
    assert len(np.unique(x[0, :, 1])) == 60
    np.testing.assert_allclose(x[..., :2], standardized(points), rtol=0, atol=ROUNDING)


def test_streamed_points_are_those_in_memory(tmp_path):
    write_shifted_points(tmp_path / "data")
    sets = [load_own(tmp_path, tmp_path / "data", targets="pressure", stream=kind) for kind in ("never", "always")]
    for name in ("x", "y"):
        np.testing.assert_array_equal(*(np.asarray(getattr(one.train, name)[:]) for one in sets))
    np.testing.assert_array_equal(*(one.x_normalizer.mean for one in sets))


def test_places_are_decoded_as_they_were(tmp_path):
    points = write_shifted_points(tmp_path / "data")
    dataset = load_own(tmp_path, tmp_path / "data", targets="pressure")
    np.testing.assert_allclose(dataset.positions(dataset.train), points, rtol=0, atol=20 * ROUNDING)


def test_pipes_far_from_the_origin(tmp_path):
    x, y, _ = fake_files.write_pipe(tmp_path)
    folder = tmp_path / pipe.FOLDER
    for name, values, shift in zip(("X", "Y"), (x, y), SHIFT, strict=True):
        np.save(folder / f"Pipe_{name}.npy", values + shift)
    expected = standardized(np.stack([x[:4], y[:4]], axis=-1).reshape(4, -1, 2))
    np.testing.assert_allclose(pipe.load(tmp_path, 4, 2).train.x, expected, rtol=0, atol=3 * ROUNDING)


def test_permeability_on_an_offset(tmp_path):
    arrays = fake_files.write_darcy(tmp_path)
    folder = tmp_path / darcy.FOLDER
    coefficient = 101325 + 50 * np.random.default_rng(1).random(arrays["coeff"].shape)
    for number, chosen in ((1, slice(0, 6)), (2, slice(6, 12))):
        content = {"coeff": coefficient[chosen], "sol": arrays["sol"][chosen]}
        fake_files.write_mat(folder / f"piececonst_r421_N1024_smooth{number}.mat", content)
    train = darcy.load(tmp_path, 6, 2, side=13).train
    np.testing.assert_allclose(
        train.x[..., 2:], standardized(coefficient[:6].reshape(6, -1, 1)), rtol=0, atol=2 * ROUNDING
    )


def test_profiles_on_an_offset(tmp_path):
    arrays = fake_files.write_plasticity(tmp_path)
    profile = 101325 + 50 * arrays["input"]
    content = {"input": profile, "output": arrays["output"]}
    fake_files.write_mat(tmp_path / plasticity.FOLDER / plasticity.FILES[0], content)
    train = plasticity.load(tmp_path, 3, 2).train
    expected = standardized(profile[:3, :, None])[..., 0]
    np.testing.assert_allclose(train.fx.reshape(3, 101, 31)[..., 0], expected, rtol=0, atol=2 * ROUNDING)


def test_meshes_far_from_the_origin():
    rng = np.random.default_rng(0)
    places = rng.random((50, 2))
    case = {"mesh_pos": places + SHIFT, "node_type": np.zeros(50, int), "velocity": rng.random((50, 3, 2))}
    shifted = case["mesh_pos"]
    extent = shifted.max(0) - shifted.min(0)
    split = mesh_series._split([case], Normalizer(shifted.min(0), extent))
    np.testing.assert_allclose(split.x[0, :, :2], (shifted - shifted.min(0)) / extent, rtol=0, atol=ROUNDING)


def test_what_is_read_keeps_its_precision():
    for dtype in (np.float32, np.float16, np.int16, np.uint8, bool):
        assert finite(np.ones(2, dtype), "a").dtype == np.float32
    for dtype in (np.float64, np.int32, np.int64, np.uint64):
        assert finite(np.ones(2, dtype), "a").dtype == np.float64
    with pytest.raises(ValueError, match=r"1 NaN or infinite values, the first at index \(1,\)"):
        finite(np.array([1.0, np.inf]), "a")
    with pytest.raises(
        ValueError, match=r"a holds 1 values beyond the range of float32, 3.4e38, the largest 1.0e\+39;"
    ):
        finite(np.array([1.0, 1e39]), "a")


def test_data_sets_are_float32():
    values = np.random.default_rng(0).random((2, 3, 1))
    split = Split(values, values, fx=values, time=np.ones(2))
    same = Normalizer.identity(1)
    dataset = PDEDataset("toy", split, {"test": split}, same, same, Source("own files", ""), "u")
    for made in (dataset.train, dataset.tests["test"]):
        assert {array.dtype for array in made.arrays().values()} == {np.dtype(np.float32)}


def test_normalizers_of_long_arrays_and_of_the_same_place():
    """Blocks are an affair of memory: the result is that of the whole, also where it replaces what it is made from."""
    field = np.random.default_rng(0).normal(size=(5, 40_000, 3)) + 1e6
    normalizer = Normalizer.fit(field)
    expected = ((field - normalizer.mean) / normalizer.std).astype(np.float32)
    np.testing.assert_array_equal(normalizer.encode(field), expected)
    narrow = field.astype(np.float32)
    expected = ((narrow.astype(np.float64) - normalizer.mean) / normalizer.std).astype(np.float32)
    np.testing.assert_array_equal(normalizer.encode_into(narrow, narrow), expected)
    assert normalizer.encode(field[:0]).shape == (0, 40_000, 3)
    np.testing.assert_allclose(normalizer.decode(normalizer.encode(field)), field, rtol=0, atol=1e-6)


def test_round_off_by_precision():
    values = np.array([[1e5, 1.0], [1e5 + 1, 2.0]])
    moments = Moments.merge([Moments.of(values), Moments.of(values + np.array([0, 0.1]))])
    assert moments.single.tolist() == [True, False]
    np.testing.assert_allclose(moments.round_off, [4 * 1.1920929e-07 * (1e5 + 1), 4 * 2.220446e-16 * 2.1])
    assert replace(Moments.from_json(moments.to_json()), count=0).single.tolist() == [True, False]


@pytest.mark.parametrize("stream", ["never", "always"])
@pytest.mark.parametrize(
    ("third", "axes"),
    [
        (lambda noise: 1e-15 * noise, [0, 1]),
        (lambda noise: 4e6 * (1 + 1e-16 * noise), [0, 1]),
        (lambda noise: (3e6 + 0.4 * noise).astype(np.float32), [0, 1]),
        (lambda noise: 1e-4 * noise, [0, 1, 2]),
        (lambda noise: 4e6 + 1e-3 * noise, [0, 1, 2]),
    ],
    ids=["round-off of zero", "of a large value", "of float32", "thin", "thin and far"],
)
def test_coordinates_of_round_off_are_no_axis(tmp_path, third, axes, stream):
    rng = np.random.default_rng(0)
    for number in range(3):
        split = "test" if number == 2 else "train"
        (tmp_path / split).mkdir(exist_ok=True)
        points = np.concatenate([rng.random((60, 2)), third(rng.random((60, 1)))], axis=1)
        np.savez(tmp_path / split / f"{number}.npz", points=points, pressure=points[:, 0], speed=number + 1.0)
    dataset = load_own(tmp_path, tmp_path, targets="pressure", stream=stream)
    assert dataset.source.detail["axes"] == axes
    assert dataset.space_dim == len(axes)


def test_samples_on_different_planes_have_that_axis(tmp_path):
    """Each sample has one z, and they differ: it is an input like the others."""
    rng = np.random.default_rng(0)
    for number in range(3):
        split = "test" if number == 2 else "train"
        (tmp_path / split).mkdir(exist_ok=True)
        points = np.concatenate([rng.random((60, 2)), np.full((60, 1), 0.1 * number)], axis=1)
        np.savez(tmp_path / split / f"{number}.npz", points=points, pressure=points[:, 0], speed=number + 1.0)
    assert load_own(tmp_path, tmp_path, targets="pressure").source.detail["axes"] == [0, 1, 2]


def test_the_example_far_from_the_origin(tmp_path):
    """Shifted flows are the same data set, up to the rounding of what is stored."""
    write_example(tmp_path / "near", num=6, kind="npz")
    for path in (tmp_path / "near").rglob("*.npz"):
        far = tmp_path / "far" / path.relative_to(tmp_path / "near")
        far.parent.mkdir(parents=True, exist_ok=True)
        arrays = dict(np.load(path))
        np.savez(far, **{**arrays, "points": arrays["points"] + np.array([5e5, 5e6])})
    names = {"inputs": "angle", "targets": "pressure,velocity"}
    near, far = (load_own(tmp_path, tmp_path / name, **names) for name in ("near", "far"))
    np.testing.assert_allclose(far.train.x, near.train.x, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(far.train.y, near.train.y)
    original = np.load(tmp_path / "far" / "test" / f"{far.sample_names['test'][0]}.npz")["points"]
    np.testing.assert_allclose(far.positions(far.tests["test"], 0)[: len(original)], original, rtol=0, atol=1e-6)

"""NASA-CRM: what is read from its files, and the stand-ins with their layout."""

import h5py
import numpy as np
import pytest

from data_pipeline.errors import DataError
from data_pipeline.generate import generate
from data_pipeline.generate.splits import held_out
from data_pipeline.pde import nasa_crm
from data_pipeline.registry import find_record


@pytest.fixture
def files(tmp_path):
    generate("nasa_crm", tmp_path, num=7, workers=1, progress=False)
    return tmp_path


def test_samples_are_read_in_the_order_of_their_names_and_normalised_by_those_that_train(files):
    dataset = find_record("nasa_crm").load(files, 4, 2)
    with h5py.File(files / nasa_crm.FOLDER / nasa_crm.TRAIN) as file:
        names = sorted(file)[:4]
        raw = np.stack([np.stack([file[name][field] for field in nasa_crm.TARGETS], -1) for name in names])
        conditions = np.array([[file[name].attrs[one] for one in nasa_crm.CONDITIONS] for name in names])
    assert dataset.sample_names["train"] == names
    assert (dataset.train.x.shape, dataset.train.y.shape) == ((4, 4096, 12), (4, 4096, 4))
    assert dataset.source.kind == "generated"
    x = dataset.train.x
    np.testing.assert_allclose([x[..., :3].min((0, 1)), x[..., :3].max((0, 1))], [[0] * 3, [1] * 3], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(x[..., 3:6], axis=-1), 1, atol=1e-6)
    standard = (conditions - conditions.mean(0)) / conditions.std(0)
    np.testing.assert_allclose(x[..., 6:], np.broadcast_to(standard[:, None], (4, 4096, 6)), atol=1e-4)
    fields = dataset.channels.split(dataset.train.y + dataset.offset)
    np.testing.assert_allclose(np.concatenate([fields["cp"], fields["cf"]], -1), raw, atol=1e-5)
    np.testing.assert_allclose(
        np.square(dataset.train.y).mean((0, 1)) @ [[1, 0], [0, 1], [0, 1], [0, 1]], [1, 1], atol=1e-3
    )
    other = find_record("nasa_crm").load(files, 4, 1)
    np.testing.assert_array_equal(other.tests["test"].y, dataset.tests["test"].y[:1])


def test_published_statistics_are_of_single_channels(files):
    """The reference divides every channel by its own deviation; models see the same numbers here."""
    dataset = find_record("nasa_crm").load(files, 4, 2)
    encoded = dataset.y_normalizer.encode(dataset.train.y)
    np.testing.assert_allclose(encoded.std((0, 1)), 1, rtol=1e-3)
    np.testing.assert_allclose(encoded.mean((0, 1)), 0, atol=1e-5)


def change(group, name):
    values = group[name][()]
    del group[name]
    return values


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda group: change(group, "cfy"), "has no array cfy in /sample_0001; fetch or write it again"),
        (lambda group: group.attrs.pop("htp"), "has no attribute htp at /sample_0001"),
        (lambda group: group.attrs.__setitem__("htp", [1.0, 2.0]), "htp at /sample_0001 that is no single number"),
        (
            lambda group: group.create_dataset("cfy", data=change(group, "cfy")[:9]),
            r"cfy of shape \(9,\) in /sample_0001",
        ),
        (lambda group: group["cfy"].__setitem__(3, np.nan), "has targets that are not finite"),
    ],
)
def test_damaged_files_are_named(files, damage, words):
    with h5py.File(files / nasa_crm.FOLDER / nasa_crm.TRAIN, "a") as file:
        damage(file["sample_0001"])
    with pytest.raises(DataError, match=words):
        find_record("nasa_crm").load(files, 3, 1)


def test_numbers_of_samples_that_are_not_there(files):
    with pytest.raises(DataError, match=r"data.n_train=50, but .* holds \d samples"):
        find_record("nasa_crm").load(files, 50, 1)


def test_the_smoke_run_has_its_samples():
    data = nasa_crm.RECORD.smoke["data"]
    test = held_out(data["num_generate"], nasa_crm.N_TEST, nasa_crm.N_TRAIN + nasa_crm.N_TEST)
    assert data["n_test"] <= test
    assert data["n_train"] <= data["num_generate"] - test

"""Which samples train, validate and test: folders, shares and lists, and copies that are in two splits."""

import json

import numpy as np
import pytest

from data_pipeline.errors import DataError
from tests.data_pipeline.custom.files import sample, write_npz
from tests.data_pipeline.custom.test_loader import load


def samples_of(dataset):
    return dataset.source.detail["samples"]


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_a_folder_of_validation_samples(tmp_path, name):
    write_npz(tmp_path / "own", {"train": (5, 6), name: (7,), "test": (5,)})
    dataset = load(tmp_path, tmp_path / "own")
    assert samples_of(dataset) == {"train": ["run_0", "run_1"], "val": ["run_2"], "test": ["run_3"]}
    (tmp_path / "own" / "val").mkdir(exist_ok=True)
    (tmp_path / "own" / "valid").mkdir(exist_ok=True)
    with pytest.raises(DataError, match="has val and valid, both for val; keep one of them"):
        load(tmp_path, tmp_path / "own")


def test_validation_samples_are_drawn_of_those_that_train(tmp_path):
    write_npz(tmp_path / "own", {"train": (5,) * 8, "test": (5,) * 2})
    found = samples_of(load(tmp_path, tmp_path / "own", n_val=3))
    assert (len(found["train"]), len(found["val"]), found["test"]) == (5, 3, ["run_8", "run_9"])
    assert sorted(found["train"] + found["val"]) == [f"run_{number}" for number in range(8)]
    with pytest.raises(DataError, match=r"data.n_val=8, but .* holds 8 samples, of which some must train; lower it"):
        load(tmp_path, tmp_path / "own", n_val=8)


def test_shares_and_counts(tmp_path):
    write_npz(tmp_path / "flat", {"": (5,) * 20})
    counts = [
        {name: len(chosen) for name, chosen in samples_of(load(tmp_path, tmp_path / "flat", **options)).items()}
        for options in ({"split": "0.7,0.2,0.1"}, {"split": "0.75, .25"}, {"n_val": 4})
    ]
    assert counts == [
        {"train": 14, "val": 4, "test": 2},
        {"train": 15, "test": 5},
        {"train": 14, "val": 4, "test": 2},
    ]
    every = samples_of(load(tmp_path, tmp_path / "flat", split="0.7,0.2,0.1"))
    assert len({name for chosen in every.values() for name in chosen}) == 20
    for text in ("0.5,0.4", "1,0", "0.2,0.2,0.2,0.4", "half,half"):
        with pytest.raises(DataError, match=rf"data.split='{text}' is not understood; write the shares of train, val"):
            load(tmp_path, tmp_path / "flat", split=text)
    write_npz(tmp_path / "own", {"train": (5,), "test": (5,)})
    with pytest.raises(DataError, match=r"has samples in test and train, but data.split='0.8,0.2' divides them anew"):
        load(tmp_path, tmp_path / "own", split="0.8,0.2")


def test_lists_of_names(tmp_path):
    write_npz(tmp_path / "flat", {"": (5,) * 6})
    listed = tmp_path / "splits.json"

    def using(lists):
        listed.write_text(json.dumps(lists))
        return samples_of(load(tmp_path, tmp_path / "flat", split=str(listed)))

    chosen = {"train": ["run_4", "run_0.npz"], "val": ["run_2"], "test": ["run_1"], "test_far": ["run_5"]}
    assert using(chosen) == {**chosen, "train": ["run_4", "run_0"]}
    for lists, problem in (
        ({"train": ["run_0"], "test": ["run_9"]}, "names 'run_9', which is none of the samples"),
        ({"train": ["run_0"], "test": ["run_0"]}, "has 'run_0' in train and in test; name every sample once"),
        ({"train": ["run_0"], "tset": ["run_1"]}, "is no division into splits, for it has 'tset'; write"),
        (["run_0"], "is no division into splits; write"),
    ):
        with pytest.raises(DataError, match=problem):
            using(lists)
    with pytest.raises(DataError, match=r"absent.json cannot be read .*; data.split names a JSON file"):
        load(tmp_path, tmp_path / "flat", split=str(tmp_path / "absent.json"))


@pytest.mark.parametrize("stream", ["never", "always"])
def test_copies_in_two_splits_are_named(tmp_path, capsys, stream):
    write_npz(tmp_path / "own", {"train": (9, 7), "test": (9, 8)})
    assert not load(tmp_path, tmp_path / "own", stream=stream).source.detail["notes"]
    copy = sample(1, 7)
    order = np.random.default_rng(0).permutation(7)
    renumbered = {name: array[order] if np.shape(array)[:1] == (7,) else array for name, array in copy.items()}
    np.savez(tmp_path / "own" / "test" / "run_8.npz", **renumbered)
    np.savez(tmp_path / "own" / "train" / "run_7.npz", **copy)  # two of one split are no problem
    capsys.readouterr()
    load(tmp_path, tmp_path / "own", stream=stream)
    said = capsys.readouterr().out
    assert "warning: 1 sample is in two splits" in said
    assert "run_8.npz of test is" in said
    np.savez(tmp_path / "own" / "test" / "run_8.npz", **{**renumbered, "pressure": renumbered["pressure"][::-1]})
    assert not load(tmp_path, tmp_path / "own", stream=stream).source.detail["notes"]

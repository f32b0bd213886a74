"""Every layout of every task, from miniature files; damaged and missing ones give one sentence."""

import os
import pickle
import sys
import types

import numpy as np
import pytest

from data_pipeline.errors import DataError
from data_pipeline.sequence import listops
from data_pipeline.sequence.image import to_grey
from data_pipeline.sequence.pickles import real_lengths
from data_pipeline.sequence.registry import load_task
from data_pipeline.sequence.tokens import decode_bytes
from runtime import files
from tests.data_pipeline.sequence import fakes


def load(name, data_dir, **changes):
    options = {"source": "files", "num_generate": 5, **changes}
    return load_task(name, data_dir, **options)


def test_listops_tokens_labels_and_padding(tmp_path):
    fakes.write_listops(tmp_path)
    dataset = load("listops", tmp_path, options={"max_length": 20})
    train = dataset.train
    symbols = [listops.SYMBOLS[token - 1] for token in train.input_ids[0, : train.lengths[0]]]
    assert symbols == ["[MAX", "2", "9", "5", "]"]
    assert train.input_ids.shape == (1, 20)
    assert not train.input_ids[0, 5:].any()
    assert (train.labels[0], dataset.num_labels, dataset.vocab_size) == (9, 10, 16)
    assert set(dataset.tests) == {"validation", "test"}
    assert dataset.selection == "validation"
    assert dataset.pad_id is None
    assert load("listops", tmp_path, options={"mask_padding": True}).pad_id == 0


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("[MIN 3 1 2 ]", 1),
        ("[MED 1 9 4 2 ]", 3),
        ("[MED 1 8 4 2 ]", 3),
        ("[MED 0 1 ]", 0),
        ("[SM 9 9 [MAX 3 [MIN 7 8 ] ] ]", 5),
    ],
)
def test_listops_values(source, value):
    assert listops.evaluate(listops.tokenize(source)) == value


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("( [MAX 2 ] )\tx", "line 2 of"),
        ("( [AVG 2 ] )\t2", "'\\[AVG'"),
        ("[MAX " + "1 " * 30 + "]\t1", "has 32 tokens; raise data.max_length=20 to that"),
        ("( [MAX 2 ] )\t300", "300 is no digit"),
    ],
)
def test_listops_files_that_must_fail(tmp_path, line, words):
    fakes.write_listops(tmp_path, (line,))
    with pytest.raises(DataError, match=words):
        load("listops", tmp_path, options={"max_length": 20})


def test_files_of_another_kind(tmp_path):
    """Bytes that are no text, and a field that no line of a CSV file can hold."""
    folder = fakes.write_listops(tmp_path)
    (folder / "basic_val.tsv").write_bytes(b"Source\tTarget\n\xff\xfe\t2\n")
    with pytest.raises(DataError, match=r"line 2 of .*basic_val.tsv is not a ListOps expression"):
        load("listops", tmp_path)
    fakes.write_board_csv(tmp_path / "sudoku-extreme", "." * 81, "1" * 81)
    (tmp_path / "sudoku-extreme" / "train.csv").write_bytes(b"source,puzzle\n" + b"\xff" * 200_000)
    with pytest.raises(DataError, match=r"line 2 of .*train.csv is not 'source,puzzle,solution,rating' .field larger"):
        load("sudoku", tmp_path)


def test_reviews_as_bytes(tmp_path):
    fakes.write_acl_imdb(tmp_path)
    dataset = load("text", tmp_path, options={"max_length": 64})
    assert decode_bytes(dataset.train.input_ids[0]).decode() == "train neg 0 é"
    assert decode_bytes(dataset.tests["test"].input_ids[-1]).decode() == "test pos 2 é"
    np.testing.assert_array_equal(dataset.train.labels, [0, 0, 0, 1, 1, 1])
    assert dataset.train.lengths[0] == len("train neg 0 é".encode())
    assert (dataset.vocab_size, dataset.num_logits, dataset.max_length) == (257, 1, 64)
    cut = load("text", tmp_path, options={"max_length": 5})
    assert decode_bytes(cut.train.input_ids[0]) == b"train"


def test_tokens_are_cached_until_the_files_change(tmp_path):
    folder = fakes.write_acl_imdb(tmp_path)
    before = load("text", tmp_path, options={"max_length": 64}).fingerprint()
    cache = folder / "tokens_64.h5"
    time = cache.stat().st_mtime_ns
    assert load("text", tmp_path, options={"max_length": 64}).fingerprint() == before
    assert cache.stat().st_mtime_ns == time
    (folder / "train" / "neg" / "0_7.txt").write_text("another review")
    assert load("text", tmp_path, options={"max_length": 64}).fingerprint() != before
    cache.write_bytes(cache.read_bytes()[:100])  # a damaged cache is built again
    assert len(load("text", tmp_path, options={"max_length": 64}).train) == 6


def test_folder_that_cannot_be_written_is_read(tmp_path, monkeypatch):
    folder = fakes.write_acl_imdb(tmp_path)

    def refuse(*arguments, **options):
        raise PermissionError("read-only")

    monkeypatch.setattr(files.os, "replace", refuse)
    assert len(load("text", tmp_path).train) == 6
    assert not list(folder.glob("*.h5"))
    assert not list(folder.glob(".*.tmp"))


def test_parquet_without_pyarrow_names_the_remedy(tmp_path, monkeypatch):
    folder = tmp_path / "imdb"
    folder.mkdir()
    for split in ("train", "test"):
        (folder / f"{split}-00000-of-00001.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match="pip install pyarrow"):
        load("text", tmp_path)


def test_parquet_columns(tmp_path, monkeypatch):
    folder = tmp_path / "imdb"
    folder.mkdir()
    for split in ("train", "test"):
        (folder / f"{split}-00000-of-00001.parquet").write_bytes(b"PAR1")

    class Column:
        def __init__(self, values):
            self.values = values

        def to_pylist(self):
            return self.values

    def read_table(file, columns):
        assert columns == ["text", "label"]
        return {"text": Column([file.name, "b"]), "label": Column([1, 0])}

    parquet = types.SimpleNamespace(read_table=read_table)
    monkeypatch.setitem(sys.modules, "pyarrow", types.SimpleNamespace(parquet=parquet))
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", parquet)
    dataset = load("text", tmp_path)
    assert decode_bytes(dataset.tests["test"].input_ids[0]) == b"test-00000-of-00001.parquet"
    np.testing.assert_array_equal(dataset.train.labels, [1, 0])


def test_tensorflow_datasets(tmp_path, monkeypatch):
    for name in ("imdb_reviews/plain_text/1.0.0", "cifar10/3.0.2"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "dataset_info.json").write_text("{}")
    calls = []

    def fake_load(name, split, data_dir, batch_size, download):
        calls.append((name, split, data_dir))
        assert batch_size == -1
        assert not download
        if name == "cifar10":
            return {"image": fakes.cifar_images(), "label": np.arange(10)}
        return {"text": np.array([split.encode()] * 2, object), "label": np.array([0, 1])}

    module = types.SimpleNamespace(load=fake_load, as_numpy=lambda arrays: arrays)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", module)
    text = load("text", tmp_path)
    assert decode_bytes(text.tests["test"].input_ids[1]) == b"test"
    assert len(load("image", tmp_path).train) == 9
    assert ("cifar10", "train", str(tmp_path)) in calls
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(DataError, match="needs tensorflow-datasets"):
        load("image", tmp_path)


def test_pairs_of_documents(tmp_path):
    fakes.write_aan(tmp_path)
    dataset = load("retrieval", tmp_path, options={"max_length": 12})
    first, second = dataset.train.input_ids[0].reshape(2, 12)
    assert decode_bytes(first) == b"first text"
    assert decode_bytes(second) == b"second, long"
    np.testing.assert_array_equal(dataset.train.labels, [1, 0])
    np.testing.assert_array_equal(dataset.train.lengths, [22, 2])
    assert (dataset.documents, dataset.max_length, set(dataset.tests)) == (2, 12, {"validation", "test"})


def test_pairs_with_missing_columns(tmp_path):
    folder = fakes.write_aan(tmp_path)
    (folder / "new_aan_pairs.eval.tsv").write_text("1.0\tonly one text\n")
    with pytest.raises(DataError, match=r"line 1 of .*eval.tsv has 2 columns"):
        load("retrieval", tmp_path)
    (folder / "new_aan_pairs.eval.tsv").write_text("inf\tP01\tP02\ta\tb\n")
    with pytest.raises(DataError, match=r"line 1 of .*eval.tsv has 5 columns and label b'inf'"):
        load("retrieval", tmp_path)


def test_grey_images(tmp_path):
    fakes.write_cifar_batches(tmp_path)
    dataset = load("image", tmp_path)
    images = fakes.cifar_images().astype(float)
    grey = np.round(images @ [0.299, 0.587, 0.114]).reshape(10, -1)
    assert np.abs(dataset.train.input_ids[:10].astype(float) - grey).max() <= 1
    assert {name: len(split) for name, split in dataset.tests.items()} == {"validation": 5, "test": 10}
    assert len(dataset.train) == 45
    assert set(load("image", tmp_path, options={"validation": 0.0}).tests) == {"test"}
    with pytest.raises(DataError, match=r"data\.validation is 1\.5 but must be a number of at least 0 and below 1"):
        load("image", tmp_path, options={"validation": 1.5})


def test_grey_levels_by_hand():
    colours = np.array([[[255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [1, 1, 1]]], np.uint8)
    np.testing.assert_array_equal(to_grey(colours), [[255, 76, 150, 29, 1]])


def test_images_of_an_npz(tmp_path):
    (tmp_path / "cifar10").mkdir()
    arrays = {"x_train": fakes.cifar_images(20), "y_train": np.zeros((20, 1), int), "x_test": fakes.cifar_images(4)}
    np.savez(tmp_path / "cifar10" / "cifar10.npz", **arrays, y_test=np.ones(4, int))
    assert load("image", tmp_path).tests["test"].labels.tolist() == [1, 1, 1, 1]
    np.savez(tmp_path / "cifar10" / "cifar10.npz", **arrays)
    with pytest.raises(DataError, match="y_test"):
        load("image", tmp_path)


def test_pathfinder_images_in_their_order(tmp_path):
    folder = fakes.write_pathfinder(tmp_path, broken=3)
    dataset = load("pathfinder32", tmp_path)
    assert {name: len(split) for name, split in dataset.tests.items()} == {"validation": 2, "test": 2}
    assert len(dataset.train) == 15  # one of the twenty is an empty file
    np.testing.assert_array_equal(dataset.train.labels[:5], [0, 1, 0, 0, 1])
    from PIL import Image

    last = np.asarray(Image.open(folder / "imgs" / "1" / "sample_9.png")).reshape(-1)
    np.testing.assert_array_equal(dataset.tests["test"].input_ids[-1], last)
    (folder / "imgs" / "0" / "sample_0.png").unlink()
    (folder / "tokens.h5").unlink()
    with pytest.raises(DataError, match=r"sample_0.png cannot be read as an image"):
        load("pathfinder32", tmp_path)


def test_pathfinder_of_another_size_or_level(tmp_path):
    fakes.write_pathfinder(tmp_path, side=32)
    (tmp_path / "lra_release" / "pathfinder32").rename(tmp_path / "lra_release" / "pathfinder128")
    with pytest.raises(DataError, match=r"\(128, 128\) are expected"):
        load("path-x", tmp_path)
    with pytest.raises(DataError, match="pathfinder32/curv_baseline"):
        load("pathfinder32", tmp_path, options={"level": "curv_baseline"}, source="auto")


def test_preprocessed_pickles(tmp_path):
    fakes.write_pickles(tmp_path, "text")
    dataset = load("text", tmp_path)
    assert dataset.train.input_ids.shape == (6, 8)
    assert dataset.vocab_size == 1 + max(dataset.train.input_ids.max(), dataset.tests["validation"].input_ids.max())
    np.testing.assert_array_equal(dataset.train.lengths, [8, 7, 6, 8, 7, 6])
    assert (dataset.num_labels, dataset.pad_id, dataset.max_length) == (2, None, 8)
    fakes.write_pickles(tmp_path, "retrieval", pair=True)
    pairs = load("retrieval", tmp_path, options={"mask_padding": True})
    assert (pairs.documents, pairs.max_length, pairs.train.input_ids.shape, pairs.pad_id) == (2, 8, (6, 16), 0)
    fakes.write_pickles(tmp_path, "pathfinder32-curv_contour_length_14")
    assert load("pathfinder32", tmp_path).name == "pathfinder32"
    with pytest.raises(DataError, match=r"data\.max_length=16 has no effect"):
        load("text", tmp_path, options={"max_length": 16})
    # The length that the files have anyway is no contradiction.
    assert load("text", tmp_path, options={"max_length": 8}).max_length == 8


def test_real_lengths():
    ids = np.array([[1, 0, 2, 0, 0], [0, 0, 0, 0, 0], [1, 2, 3, 4, 5]])
    np.testing.assert_array_equal(real_lengths(ids), [3, 1, 5])


class _Evil:
    def __reduce__(self):
        return os.system, ("true",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (_Evil(), "system, which is no array"),
        ({"a": 1}, "not a list of samples"),
        ([{"label": 1}], "without a proper 'input_ids_0'"),
        ([{"input_ids_0": [1, 2], "label": 0}, {"input_ids_0": [1], "label": 0}], "lengths 1 to 2"),
        ([{"input_ids_0": [1, 2], "label": [0, 1]}], "without a proper 'label'"),
        ([{"input_ids_0": [-1, 2], "label": 0}], "holds token -1"),
    ],
)
def test_pickles_that_must_fail(tmp_path, content, words):
    folder = fakes.write_pickles(tmp_path, "text")
    for split in ("train", "dev"):
        (folder / f"lra-text.{split}.pickle").write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=words):
        load("text", tmp_path)


def test_pickles_with_damaged_bytes(tmp_path):
    folder = fakes.write_pickles(tmp_path, "text")
    path = folder / "lra-text.train.pickle"
    content = path.read_bytes()
    generator = np.random.default_rng(0)
    failures = 0
    for _ in range(200):
        damaged = bytearray(content)
        for place in generator.integers(0, len(damaged), 8):
            damaged[place] = generator.integers(256)
        path.write_bytes(damaged)
        try:
            load("text", tmp_path)
        except DataError:
            failures += 1
    assert failures > 100


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("listop", {}, "choose one of binary_relation"),
        ("match2", {}, "choose one of binary_relation"),
        ("listops", {}, "lra_release.gz.*python -m data_pipeline.generate listops --num=5 --seed=0"),
        ("text", {"source": "auto"}, "aclImdb_v1.tar.gz.*data.source=generated to try"),
        ("listops", {"source": "internet"}, "internet"),
        ("match3", {"options": {"split": "odd"}}, "data.split is 'odd' but must be one of 'base', 'reference'"),
        ("match3", {"options": {"bins": 3}}, "has no option 'bins'; its options are split"),
        ("listops", {"options": {"max_length": 0}}, "data.max_length is 0 but must be an integer of at least 1"),
    ],
)
def test_requests_that_must_fail(tmp_path, name, changes, words):
    with pytest.raises(DataError, match=words):
        load(name, tmp_path, **changes)


def test_limits(tmp_path):
    fakes.write_pickles(tmp_path, "text")
    dataset = load("text", tmp_path, n_train=4, n_test=50)
    assert (len(dataset.train), len(dataset.tests["validation"])) == (4, 6)
    for changes in ({"n_train": 7}, {"n_train": -1}, {"n_test": -1}):
        with pytest.raises(DataError, match=r"data\.n_t"):
            load("text", tmp_path, **changes)

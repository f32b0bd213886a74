"""Files as other systems leave them: hidden ones beside the true ones, encoding marks, blank lines, deep greys."""

import codecs

import numpy as np
import pytest
from PIL import Image

from data_pipeline.errors import DataError
from data_pipeline.sequence.registry import load_task
from tests.data_pipeline.sequence import fakes


def load(name, data_dir, **options):
    return load_task(name, data_dir, source="files", num_generate=5, options=options)


def spoil(path, ending=b"\n"):
    """Write a file again as some editors do: with a mark of its encoding, other line ends, and a blank last line."""
    lines = path.read_bytes().rstrip().splitlines()
    path.write_bytes(codecs.BOM_UTF8 + ending.join([*lines, b"  ", b"", b""]))


def hide_beside(path):
    (path.parent / f"._{path.name}").write_bytes(b"\x00\x05\x16\x07\x00")


def write_sudoku(data_dir):
    return fakes.write_board_csv(data_dir / "sudoku-extreme", fakes.PUZZLE, "1" * 81)


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"], ids=["unix", "windows"])
@pytest.mark.parametrize(
    ("name", "write", "files", "options"),
    [
        ("listops", fakes.write_listops, "*.tsv", {"max_length": 20}),
        ("retrieval", fakes.write_aan, "*.tsv", {"max_length": 12}),
        ("sudoku", write_sudoku, "*.csv", {"num_augment": 1}),
        ("pathfinder32", fakes.write_pathfinder, "metadata/*.npy", {}),
    ],
)
def test_marks_and_blank_lines_change_nothing(tmp_path, name, write, files, options, ending):
    folder = write(tmp_path)
    expected = load(name, tmp_path, **options)
    for path in folder.glob(files):
        spoil(path, ending)
    for cache in folder.glob("*.h5"):
        cache.unlink()
    found = load(name, tmp_path, **options)
    assert found.fingerprint() == expected.fingerprint()
    assert len(found.train) == len(expected.train)


def test_line_numbers_count_blank_lines(tmp_path):
    folder = fakes.write_aan(tmp_path)
    (folder / "new_aan_pairs.eval.tsv").write_bytes(b"\n\n1.0\tonly one text\n")
    with pytest.raises(DataError, match=r"line 3 of .*eval.tsv has 2 columns"):
        load("retrieval", tmp_path)


def test_hidden_files_are_no_reviews(tmp_path):
    folder = fakes.write_acl_imdb(tmp_path)
    for path in [*folder.glob("*/*/*.txt")]:
        hide_beside(path)
    assert len(load("text", tmp_path).train) == 6


def test_hidden_files_alone_are_no_data_set(tmp_path):
    folder = fakes.write_acl_imdb(tmp_path)
    for path in [*folder.glob("test/pos/*.txt")]:
        hide_beside(path)
        path.unlink()
    with pytest.raises(DataError, match=r"none of .* found"):
        load("text", tmp_path)


def test_hidden_lists_of_images(tmp_path):
    folder = fakes.write_pathfinder(tmp_path)
    expected = load("pathfinder32", tmp_path).fingerprint()
    (folder / "tokens.h5").unlink()
    for path in [*(folder / "metadata").glob("*.npy")]:
        hide_beside(path)
    assert load("pathfinder32", tmp_path).fingerprint() == expected


def test_grey_levels_of_16_bits(tmp_path):
    """Level v of 8 bits is v · 257 of 16 bits."""
    folder = fakes.write_pathfinder(tmp_path)
    expected = load("pathfinder32", tmp_path)
    (folder / "tokens.h5").unlink()
    for path in folder.glob("imgs/*/*.png"):
        levels = np.asarray(Image.open(path)).astype(np.uint16)
        Image.fromarray(levels * 257).save(path)
        assert Image.open(path).mode.startswith("I")
    found = load("pathfinder32", tmp_path)
    assert found.train.input_ids.max() == 255
    np.testing.assert_array_equal(found.train.input_ids, expected.train.input_ids)


@pytest.mark.parametrize(
    ("levels", "words"),
    [(np.full((32, 32), 70_000, np.int32), "reach from 70000 to 70000"), (np.zeros((32, 32), np.float32), "floating")],
)
def test_grey_levels_of_unknown_range(tmp_path, levels, words):
    folder = fakes.write_pathfinder(tmp_path)
    path = folder / "imgs" / "0" / "sample_0.png"
    Image.fromarray(levels).save(path.with_suffix(".tiff"))
    path.write_bytes(path.with_suffix(".tiff").read_bytes())
    with pytest.raises(DataError, match=words):
        load("pathfinder32", tmp_path)

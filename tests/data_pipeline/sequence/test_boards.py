import numpy as np
import pytest

from data_pipeline.errors import DataError
from data_pipeline.sequence import sudoku_augmentation
from data_pipeline.sequence.registry import load_task
from tests.data_pipeline.sequence import fakes

SOLUTION = "".join(str((3 * row + row // 3 + column) % 9 + 1) for row in range(9) for column in range(9))
PUZZLE = "".join(digit if index % 3 else "." for index, digit in enumerate(SOLUTION))


def load(name, data_dir, **options):
    return load_task(name, data_dir, source="files", num_generate=1, options=options)


def valid(board):
    grid = np.asarray(board).reshape(9, 9)
    boxes = grid.reshape(3, 3, 3, 3).swapaxes(1, 2).reshape(9, 9)
    return all((np.sort(lines, axis=1) == np.arange(1, 10)).all() for lines in (grid, grid.T, boxes))


def test_sudoku_csv_with_augmented_copies(tmp_path):
    fakes.write_board_csv(tmp_path / "sudoku-extreme", PUZZLE, SOLUTION)
    dataset = load("sudoku", tmp_path, num_augment=4)
    assert len(dataset.train) == 3 * 5
    assert len(dataset.tests["test"]) == 3
    assert dataset.train.input_ids[0].tolist() == [int(c) for c in PUZZLE.replace(".", "0")]
    for puzzle, solution in zip(dataset.train.input_ids, dataset.train.labels, strict=True):
        assert valid(solution)
        given = puzzle > 0
        assert given.sum() == 54
        np.testing.assert_array_equal(puzzle[given], solution[given])
    assert len({row.tobytes() for row in dataset.train.input_ids[:5]}) == 5
    assert (dataset.vocab_size, dataset.num_labels, dataset.pad_id, dataset.token_level) == (10, 10, None, True)
    assert load("sudoku", tmp_path, num_augment=0, pad_blank=True).pad_id == 0


def test_sudoku_options(tmp_path):
    fakes.write_board_csv(tmp_path / "sudoku-extreme", PUZZLE, SOLUTION)
    assert len(load("sudoku", tmp_path, num_augment=0, min_rating=3).train) == 2
    assert len(load("sudoku", tmp_path, num_augment=0, subsample=1).train) == 1
    first, second = (load("sudoku", tmp_path, num_augment=2, augment_seed=seed) for seed in (0, 1))
    assert first.fingerprint() != second.fingerprint()
    with pytest.raises(DataError, match="no puzzle of rating 10"):
        load("sudoku", tmp_path, min_rating=10)
    with pytest.raises(DataError, match="num_augment is -1 but must be an integer of at least 0"):
        load("sudoku", tmp_path, num_augment=-1)


def test_augmentation_keeps_the_original_order_of_draws():
    board = np.arange(81).reshape(9, 9) % 9 + 1
    rng, mirror = np.random.default_rng(5), np.random.default_rng(5)
    changed, _ = sudoku_augmentation.augment(board, board, rng)
    digits = np.concatenate([[0], mirror.permutation(np.arange(1, 10))])
    source = board.T if mirror.random() < 0.5 else board
    rows = [3 * band + row for band in mirror.permutation(3) for row in mirror.permutation(3)]
    columns = [3 * stack + column for stack in mirror.permutation(3) for column in mirror.permutation(3)]
    np.testing.assert_array_equal(changed, digits[source[rows][:, columns]])


def test_sudoku_arrays_hold_out_a_tenth(tmp_path):
    folder = tmp_path / "sudoku_extreme_1k"
    folder.mkdir()
    puzzles = np.tile([int(c) + 1 for c in PUZZLE.replace(".", "0")], (20, 1)).astype(np.uint8)
    solutions = np.tile([int(c) + 1 for c in SOLUTION], (20, 1)).astype(np.uint8)
    np.save(folder / "all__inputs.npy", puzzles)
    np.save(folder / "all__labels.npy", solutions)
    dataset = load("sudoku", tmp_path, num_augment=0)
    assert (len(dataset.train), len(dataset.tests["test"])) == (18, 2)
    assert dataset.train.input_ids[0].tolist() == [int(c) for c in PUZZLE.replace(".", "0")]
    np.save(folder / "all__labels.npy", solutions[:, :80])
    with pytest.raises(DataError, match=r"\(any, 81\) is expected"):
        load("sudoku", tmp_path, num_augment=0)


@pytest.mark.parametrize(("puzzle", "words"), [("12x", "line 2 of .*train.csv"), ("." * 80, "does not have 81 cells")])
def test_boards_that_must_fail(tmp_path, puzzle, words):
    fakes.write_board_csv(tmp_path / "sudoku-extreme", puzzle, SOLUTION)
    with pytest.raises(DataError, match=words):
        load("sudoku", tmp_path)


def test_mazes_and_their_symmetries(tmp_path):
    maze = list("S" + " " * 28 + "G" + "#" * 870)
    solution = list("S" + "o" * 28 + "G" + "#" * 870)
    fakes.write_board_csv(tmp_path / "maze-30x30-hard-1k", "".join(maze), "".join(solution))
    dataset = load("maze", tmp_path)
    assert dataset.train.input_ids[0, :2].tolist() == [3, 2]
    assert dataset.train.labels[0, :2].tolist() == [3, 5]
    assert (dataset.vocab_size, dataset.num_labels, dataset.max_length) == (6, 6, 900)
    turned = load("maze", tmp_path, augment=True).train
    assert len(turned) == 8 * 3
    grids = turned.input_ids.reshape(8, 3, 30, 30)[:, 0]
    np.testing.assert_array_equal(grids[1], np.rot90(grids[0]))
    np.testing.assert_array_equal(grids[4], grids[0][:, ::-1])
    different = turned.input_ids != turned.labels
    np.testing.assert_array_equal(different.sum(1), 28)

"""Puzzles with a label for every cell: Sudoku-Extreme and Maze-Hard.

Sources: sapientinc/sudoku-extreme and sapientinc/maze-30x30-hard-1k, as CSV files (source, puzzle, solution, rating)
or as the arrays all__inputs.npy and all__labels.npy that programs for these sets make of them.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Int

from data_pipeline.errors import DataError
from data_pipeline.numpy_files import load_npy
from data_pipeline.options import MOST, seed
from data_pipeline.sequence import sudoku_augmentation
from data_pipeline.sequence.cache import cached, stamp
from data_pipeline.sequence.dataset import SequenceDataset, TokenSplit
from data_pipeline.sequence.layout import Layout, SequenceTask
from data_pipeline.sequence.recipe import AVERAGED, size, training
from runtime.options import declare, option

SUDOKU_FOLDER, MAZE_FOLDER = "sudoku-extreme", "maze-30x30-hard-1k"
SUDOKU_TEST = 10_000
MAZE_SYMBOLS = "# SGo"  # wall, free, start, goal, path: tokens 1 … 5
Boards = tuple[Int[np.ndarray, "S N"], Int[np.ndarray, "S N"]]


def read_sudoku_csv(
    folder: Path, *, subsample: int, num_augment: int, augment_seed: int, min_rating: int, pad_blank: bool
) -> SequenceDataset:
    """Load train.csv and test.csv (its first 10 000 puzzles); see `_sudoku` for the options."""
    files = [folder / "train.csv", folder / "test.csv"]

    def read(split: int, limit: int | None) -> Boards:
        return _read_csv(files[split], 81, {".": 0, **{str(d): d for d in range(10)}}, min_rating, limit)

    key = stamp(files, "sudoku 1", subsample, num_augment, augment_seed, min_rating)

    def build() -> dict[str, np.ndarray]:
        train = _augmented(read(0, None), subsample, num_augment, augment_seed)
        return dict(zip(_NAMES, (*train, *read(1, SUDOKU_TEST)), strict=True))

    arrays = cached(folder / "boards.h5", key, build)
    train, test = (tuple(arrays[name] for name in names) for names in (_NAMES[:2], _NAMES[2:]))
    return _sudoku(train, test, pad_blank)


def read_sudoku_arrays(
    folder: Path, *, subsample: int, num_augment: int, augment_seed: int, pad_blank: bool
) -> SequenceDataset:
    """Load all__inputs.npy and all__labels.npy, in which 1 is a blank and d + 1 the digit d.

    They may lie in train/ and test/ or, without a test set, in the folder itself: the last tenth is then the test.
    """
    train, test = _read_arrays(folder, 81)
    train, test = ((puzzles - 1, solutions - 1) for puzzles, solutions in (train, test))
    return _sudoku(_augmented(train, subsample, num_augment, augment_seed), test, pad_blank)


def read_maze_csv(folder: Path, *, augment: bool) -> SequenceDataset:
    """Load train.csv and test.csv, whose boards are written with the symbols `# SGo`."""
    symbols = {symbol: index + 1 for index, symbol in enumerate(MAZE_SYMBOLS)}
    return _maze(*(_read_csv(folder / f"{split}.csv", 900, symbols, 0, None) for split in ("train", "test")), augment)


def read_maze_arrays(folder: Path, *, augment: bool) -> SequenceDataset:
    """Load all__inputs.npy and all__labels.npy of train/ and test/, which hold the tokens 1 … 5."""
    return _maze(*_read_arrays(folder, 900), augment)


_NAMES = ("train_inputs", "train_labels", "test_inputs", "test_labels")


def _augmented(boards: Boards, subsample: int, num_augment: int, seed: int) -> Boards:
    """Return the chosen puzzles, each followed by its augmented copies; `subsample` 0 takes all of them.

    The order of the random draws is the original's.
    """
    puzzles, solutions = boards
    rng = np.random.default_rng(seed + sudoku_augmentation.SEED_OFFSETS["train"])
    if min(subsample, num_augment, seed) < 0:
        raise DataError(
            f"data.subsample={subsample}, data.num_augment={num_augment} and data.augment_seed={seed} must not be "
            "negative"
        )
    if 0 < subsample < len(puzzles):
        chosen = rng.choice(len(puzzles), subsample, replace=False)
        puzzles, solutions = puzzles[chosen], solutions[chosen]
    shape = (len(puzzles), 1 + num_augment, 81)
    inputs, labels = np.empty(shape, np.uint8), np.empty(shape, np.int8)
    for index, pair in enumerate(zip(puzzles.reshape(-1, 9, 9), solutions.reshape(-1, 9, 9), strict=True)):
        for copy in range(1 + num_augment):
            puzzle, solution = sudoku_augmentation.augment(*pair, rng) if copy else pair
            inputs[index, copy], labels[index, copy] = puzzle.reshape(-1), solution.reshape(-1)
    return inputs.reshape(-1, 81), labels.reshape(-1, 81)


def _sudoku(train: Boards, test: Boards, pad_blank: bool) -> SequenceDataset:
    """Return the data set; `pad_blank` masks the blanks as the original does, which hides where they are."""
    return SequenceDataset(
        name="sudoku",
        train=_split(*train),
        tests={"test": _split(*test)},
        vocab_size=10,
        num_labels=10,
        max_length=81,
        pad_id=0 if pad_blank else None,
    )


def _maze(train: Boards, test: Boards, augment: bool) -> SequenceDataset:
    """Return the data set; `augment` adds the seven turned and mirrored copies of every training maze."""
    if augment:
        train = tuple(np.concatenate(list(_symmetries(boards))) for boards in train)
    return SequenceDataset(
        name="maze",
        train=_split(*train),
        tests={"test": _split(*test)},
        vocab_size=len(MAZE_SYMBOLS) + 1,
        num_labels=len(MAZE_SYMBOLS) + 1,
        max_length=900,
        label_names=("unused", "wall", "free", "start", "goal", "path"),
    )


def _symmetries(boards: Int[np.ndarray, "S N"]) -> Iterator[Int[np.ndarray, "S N"]]:
    """Yield the eight turned and mirrored forms of square boards, the unchanged one first."""
    side = round(boards.shape[1] ** 0.5)
    squares = boards.reshape(-1, side, side)
    for mirrored in (squares, squares[:, :, ::-1]):
        for turns in range(4):
            yield np.rot90(mirrored, turns, axes=(1, 2)).reshape(boards.shape)


def _split(inputs: np.ndarray, labels: np.ndarray) -> TokenSplit:
    lengths = np.full(len(inputs), inputs.shape[1], np.int32)
    return TokenSplit(inputs.astype(np.uint8, copy=False), labels.astype(np.int8, copy=False), lengths)


def _read_csv(path: Path, cells: int, symbols: dict[str, int], min_rating: int, limit: int | None) -> Boards:
    """Return puzzles and solutions of at least `min_rating`, at most `limit` of them."""
    boards: list[tuple[list[int], list[int]]] = []
    # A file of another kind fails the checks of its content, not the decoder.
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        rows = csv.reader(file)
        try:
            next(rows, None)
            for _, puzzle, solution, rating in (row for row in rows if any(map(str.strip, row))):
                if int(rating) >= min_rating:
                    boards.append(tuple([symbols[symbol] for symbol in text] for text in (puzzle, solution)))
                    if {len(board) for board in boards[-1]} != {cells}:
                        raise ValueError(f"it does not have {cells} cells")
                if len(boards) == limit:
                    break
        except (ValueError, KeyError, csv.Error) as error:
            raise DataError(
                f"line {rows.line_num} of {path} is not 'source,puzzle,solution,rating' ({error}); get the file again"
            ) from error
    if not boards:
        raise DataError(f"{path} holds no puzzle of rating {min_rating} or more; lower data.min_rating")
    puzzles, solutions = zip(*boards, strict=True)
    return np.array(puzzles, np.uint8), np.array(solutions, np.int8)


def _read_arrays(folder: Path, cells: int) -> tuple[Boards, Boards]:
    """Return the boards of train/ and test/, or of the folder itself with its last tenth as the test."""
    if (folder / "train").is_dir():
        return _read_pair(folder / "train", cells), _read_pair(folder / "test", cells)
    inputs, labels = _read_pair(folder, cells)
    first = len(inputs) - max(1, len(inputs) // 10)
    return (inputs[:first], labels[:first]), (inputs[first:], labels[first:])


def _read_pair(folder: Path, cells: int) -> Boards:
    arrays = tuple(load_npy(folder / name) for name in ("all__inputs.npy", "all__labels.npy"))
    if arrays[0].shape != arrays[1].shape or arrays[0].ndim != 2 or arrays[0].shape[1] != cells:
        raise DataError(f"{folder} has boards {arrays[0].shape} and {arrays[1].shape}; (any, {cells}) is expected")
    return arrays


_CSV = ("train.csv", "test.csv")
_SPLIT_ARRAYS = tuple(f"{split}/all__{kind}.npy" for split in ("train", "test") for kind in ("inputs", "labels"))
_PUZZLE = {**size(2, 256, 8), **AVERAGED, "schedule.div_factor": 100.0, "schedule.final_div_factor": 0.01}

SUDOKU = SequenceTask(
    name="sudoku",
    layouts=(
        Layout(SUDOKU_FOLDER, _CSV, read_sudoku_csv),
        Layout("sudoku_extreme_1k", ("all__inputs.npy", "all__labels.npy"), read_sudoku_arrays),
        Layout("sudoku_extreme_1k", _SPLIT_ARRAYS, read_sudoku_arrays),
    ),
    download="the dataset repository sapientinc/sudoku-extreme (train.csv and test.csv)",
    generator="sudoku",
    generated=Layout(SUDOKU_FOLDER, _CSV, read_sudoku_csv),
    token_level=True,
    short=True,
    options=declare(
        subsample=option(1000, help="training puzzles before augmentation; 0: all", minimum=0, maximum=MOST),
        num_augment=option(1000, help="augmented copies of each training puzzle", minimum=0, maximum=10**6),
        augment_seed=seed(0, "random seed of subsampling and augmentation"),
        min_rating=option(0, help="least difficulty of a training puzzle", minimum=0, maximum=MOST),
        pad_blank=option(False, help="blank cells are padding and are masked"),
    ),
    recipe={"all": {**training(256, 1e-4, 1.0, steps=20_000), **_PUZZLE}},
    smoke={"data": {"num_generate": 20, "num_augment": 5}},
)
MAZE = SequenceTask(
    name="maze",
    layouts=(
        Layout(MAZE_FOLDER, _CSV, read_maze_csv),
        Layout("maze_hard_1k", _SPLIT_ARRAYS, read_maze_arrays),
    ),
    download="the dataset repository sapientinc/maze-30x30-hard-1k (train.csv and test.csv)",
    generator="maze",
    generated=Layout(MAZE_FOLDER, _CSV, read_maze_csv),
    token_level=True,
    options=declare(augment=option(False, help="eight orientations of each training maze")),
    recipe={"all": {**training(64, 1e-4, 1.0, steps=20_000), **_PUZZLE}},
    smoke={"data": {"num_generate": 20}},
)
TASKS = (SUDOKU, MAZE)

"""Sudoku puzzles with one solution, in the form of sapientinc/sudoku-extreme.

A random full board loses its digits in random order, each unless a second solution appears; so no digit of a puzzle
could be left out. The rating is the number of guesses that the solver below needs.
"""

import csv
from pathlib import Path

import numpy as np

from data_pipeline.generate.chunks import Samples
from data_pipeline.generate.generator import Generator
from data_pipeline.sequence.boards import SUDOKU_FOLDER

_ALL = 0b111_111_111


class _Solver:
    """Depth-first search on the cell with the fewest candidates; counts guesses and stops at `limit` solutions."""

    def __init__(self, board: list[int], limit: int, rng: np.random.Generator | None = None) -> None:
        self.board, self._limit, self._rng = list(board), limit, rng
        self._rows, self._columns, self._boxes = [0] * 9, [0] * 9, [0] * 9
        self.guesses = 0
        self.solutions: list[list[int]] = []
        for cell, digit in enumerate(self.board):
            if digit:
                self._flip(cell, 1 << digit - 1)
        self._search()

    def _flip(self, cell: int, bit: int) -> None:
        row, column = divmod(cell, 9)
        self._rows[row] ^= bit
        self._columns[column] ^= bit
        self._boxes[row // 3 * 3 + column // 3] ^= bit

    def _free(self, cell: int) -> int:
        row, column = divmod(cell, 9)
        return _ALL & ~(self._rows[row] | self._columns[column] | self._boxes[row // 3 * 3 + column // 3])

    def _search(self) -> None:
        empty = [(self._free(cell).bit_count(), cell) for cell, digit in enumerate(self.board) if not digit]
        if not empty:
            self.solutions.append(list(self.board))
            return
        count, cell = min(empty)
        self.guesses += count > 1
        digits = [digit for digit in range(1, 10) if self._free(cell) >> digit - 1 & 1]
        if self._rng is not None:
            self._rng.shuffle(digits)
        for digit in digits:
            self.board[cell] = digit
            self._flip(cell, 1 << digit - 1)
            self._search()
            self._flip(cell, 1 << digit - 1)
            if len(self.solutions) >= self._limit:
                break
        self.board[cell] = 0


def puzzle(rng: np.random.Generator) -> tuple[list[int], list[int], int]:
    """Return a puzzle (0 is a blank), its only solution, and the number of guesses that a search needs."""
    solution = _Solver([0] * 81, 1, rng).solutions[0]
    board = list(solution)
    for cell in rng.permutation(81):
        board[cell] = 0
        if len(_Solver(board, 2).solutions) > 1:
            board[cell] = solution[cell]
    return board, solution, _Solver(board, 2).guesses


def _solve(seed: int, indices: range) -> dict[str, np.ndarray]:
    puzzles, solutions, ratings = zip(*(puzzle(np.random.default_rng([seed, index])) for index in indices), strict=True)
    return {
        "puzzles": np.array(puzzles, np.uint8),
        "solutions": np.array(solutions, np.uint8),
        "ratings": np.array(ratings, np.int32),
    }


def _export(arrays: Samples, folder: Path) -> None:
    total = len(arrays["ratings"])
    first = total - max(1, total // 10)
    for split, rows in (("train", range(first)), ("test", range(first, total))):
        with (folder / f"{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("source", "question", "answer", "rating"))
            for row in rows:
                boards = ("".join(map(str, arrays[name][row])) for name in ("puzzles", "solutions"))
                question, answer = boards
                writer.writerow(("generated", question.replace("0", "."), answer, arrays["ratings"][row]))


GENERATOR = Generator(
    name="sudoku",
    folder=SUDOKU_FOLDER,
    files=("train.csv", "test.csv"),
    num=11_000,
    chunk=10,
    solver="random full boards whose digits are removed while the solution stays unique",
    version=1,
    details={"rating": "guesses of a depth-first search; not comparable with the public ratings",
             "splits": "the last tenth is the test"},
    solve=_solve,
    export=_export,
)  # fmt: skip

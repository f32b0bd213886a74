"""Symmetries of Sudoku: relabelled digits, transposition, permuted bands, stacks, and rows and columns inside them."""

import numpy as np
from jaxtyping import Int

Board = Int[np.ndarray, "9 9"]
# The original adds this to the seed.
SEED_OFFSETS = {"train": 0, "test": 1, "val": 2}


def augment(puzzle: Board, solution: Board, rng: np.random.Generator) -> tuple[Board, Board]:
    """Return a random equivalent of a puzzle with its solution; blanks (0) stay blank.

    The draws come in the original's order: digits, transposition, bands with the rows of each, stacks likewise.
    """
    digits = np.concatenate([[0], rng.permutation(np.arange(1, 10))])
    transposed = rng.random() < 0.5
    rows, columns = _lines(rng), _lines(rng)

    def change(board: Board) -> Board:
        return digits[(board.T if transposed else board)[rows[:, None], columns]]

    return change(puzzle), change(solution)


def _lines(rng: np.random.Generator) -> Int[np.ndarray, "9"]:
    """Return an order of nine lines that keeps the three of each band together."""
    return np.concatenate([3 * band + rng.permutation(3) for band in rng.permutation(3)])

"""Mazes of 30 × 30 cells with their shortest path, in the form of sapientinc/maze-30x30-hard-1k.

A random depth-first search carves a maze without loops between cells two apart; opening some walls adds loops. Start
and goal are drawn until the shortest path marks more than 100 cells or, in a small maze, as many as it can.
"""

import csv
from collections import deque
from pathlib import Path

import numpy as np
from jaxtyping import Int

from data_pipeline.generate.chunks import Samples
from data_pipeline.generate.generator import Generator
from data_pipeline.sequence.boards import MAZE_FOLDER, MAZE_SYMBOLS

SIDE, SHORTEST, OPENED = 30, 100, 0.08
_WALL, _FREE, _START, _GOAL, _PATH = range(1, 6)
_STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))
Cell = tuple[int, int]


def maze(rng: np.random.Generator) -> tuple[Int[np.ndarray, "N N"], Int[np.ndarray, "N N"]]:
    """Return a maze of the tokens 1 … 4 and its solution, in which the path between start and goal is marked 5."""
    while True:
        board = _carve(rng)
        free = np.argwhere(board == _FREE)
        for _ in range(20):
            start, goal = (tuple(map(int, free[i])) for i in rng.choice(len(free), 2, replace=False))
            path = shortest_path(board, start, goal)
            if len(path) > SHORTEST:
                return _marked(board, start, goal, path)


def _marked(board: np.ndarray, start: Cell, goal: Cell, path: list[Cell]) -> tuple[np.ndarray, np.ndarray]:
    board[start], board[goal] = _START, _GOAL
    solution = board.copy()
    for cell in path[1:-1]:
        solution[cell] = _PATH
    return board, solution


def _carve(rng: np.random.Generator) -> Int[np.ndarray, "N N"]:
    board = np.full((SIDE, SIDE), _WALL, np.uint8)
    stack = [tuple(int(value) for value in 2 * rng.integers(SIDE // 2, size=2))]
    board[stack[0]] = _FREE
    while stack:
        row, column = stack[-1]
        ahead = [(r, c) for r, c in _STEPS if _inside(row + 2 * r, column + 2 * c)
                 and board[row + 2 * r, column + 2 * c] == _WALL]  # fmt: skip
        if not ahead:
            stack.pop()
            continue
        r, c = ahead[rng.integers(len(ahead))]
        board[row + r, column + c] = board[row + 2 * r, column + 2 * c] = _FREE
        stack.append((row + 2 * r, column + 2 * c))
    board[(rng.random(board.shape) < OPENED) & (board == _WALL)] = _FREE
    return board


def _inside(row: int, column: int) -> bool:
    return 0 <= row < SIDE and 0 <= column < SIDE


def shortest_path(board: Int[np.ndarray, "N N"], start: Cell, goal: Cell) -> list[Cell]:
    """Return the cells of a shortest path from start to goal, both included; empty where there is none."""
    before: dict[Cell, Cell] = {start: start}
    waiting = deque([start])
    while waiting and goal not in before:
        row, column = waiting.popleft()
        for r, c in _STEPS:
            cell = (row + r, column + c)
            if _inside(*cell) and board[cell] != _WALL and cell not in before:
                before[cell] = (row, column)
                waiting.append(cell)
    if goal not in before:
        return []
    path = [goal]
    while path[-1] != start:
        path.append(before[path[-1]])
    return path[::-1]


def _solve(seed: int, indices: range) -> dict[str, np.ndarray]:
    pairs = [maze(np.random.default_rng([seed, index])) for index in indices]
    mazes, solutions = (np.stack(parts).reshape(len(indices), -1) for parts in zip(*pairs, strict=True))
    return {"mazes": mazes, "solutions": solutions}


def _export(arrays: Samples, folder: Path) -> None:
    half = (len(arrays["mazes"]) + 1) // 2
    for split, rows in (("train", slice(0, half)), ("test", slice(half, None))):
        with (folder / f"{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("source", "question", "answer", "rating"))
            for board, solution in zip(arrays["mazes"][rows], arrays["solutions"][rows], strict=True):
                rating = int((solution == _PATH).sum())
                texts = ("".join(MAZE_SYMBOLS[token - 1] for token in tokens) for tokens in (board, solution))
                writer.writerow(("generated", *texts, rating))


GENERATOR = Generator(
    name="maze",
    folder=MAZE_FOLDER,
    files=("train.csv", "test.csv"),
    num=2000,
    chunk=50,
    solver="depth-first mazes of 30 x 30 cells with opened walls, and a breadth-first shortest path",
    version=1,
    details={"rating": "cells of the path between start and goal", "splits": "the second half is the test"},
    solve=_solve,
    export=_export,
)

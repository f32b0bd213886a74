"""The generators of the sequence tasks write files that their loaders read, with the distribution that they promise."""

import json

import numpy as np
import pytest

from data_pipeline.errors import DataError
from data_pipeline.generate import GENERATORS, load_generator
from data_pipeline.generate.sequence import listops, maze, multi_token, pathfinder, stand_in, sudoku
from data_pipeline.sequence.listops import IDS, evaluate, tokenize
from data_pipeline.sequence.registry import TASKS, load_task
from runtime.options import defaults_of


def test_every_task_has_a_generator_of_its_name():
    for name, task in TASKS.items():
        assert load_generator(GENERATORS[task.generator]).name == name


# One task for each of the forms in which generators write files.
@pytest.mark.parametrize(
    ("name", "num"),
    [("listops", 30), ("pathfinder32", 20), ("mta-toy", 12), ("match3", 200), ("sudoku", 4), ("maze", 4), ("text", 30)],
)
def test_generated_files_are_loaded_and_named_as_such(tmp_path, name, num):
    said = []
    options = {"sudoku": {"num_augment": 2}}.get(name, {})
    dataset = load_task(
        name, tmp_path, source="generated", num_generate=num, generate_seed=3, options=options, say=said.append
    )
    assert dataset.source.kind == "generated"
    assert f"generating {num}" in said[0]
    place = TASKS[name].generated.place(tmp_path, defaults_of(TASKS[name].options))
    source = json.loads((place / "SOURCE.json").read_text())
    assert (source["seed"], source["num"]) == (3, num)
    again = load_task(
        name, tmp_path, source="generated", num_generate=1, generate_seed=9, options=options, say=said.append
    )
    assert len(said) == 1
    assert again.fingerprint() == dataset.fingerprint()
    made = {"source": "generated", "num_generate": num, "options": options}
    load_task(name, tmp_path, **made, generate_seed=3, asked=("num_generate", "generate_seed"))
    with pytest.raises(DataError, match=r"data.generate_seed=9 has no effect, for .* were generated with 3; leave it"):
        load_task(name, tmp_path, **made, generate_seed=9, asked=("generate_seed",))


def test_listops_distribution():
    rng = np.random.default_rng(0)
    for _ in range(10):
        tokens = listops.expression(rng)
        assert 500 < len(tokens) < 2000
        depth, deepest, waiting = 0, 0, [0]
        for token in tokens:
            if token in listops._OPERATORS:
                waiting[-1] += 1
                waiting.append(0)
                depth += 1
                deepest = max(deepest, depth)
            elif token == IDS["]"]:
                assert 2 <= waiting.pop() <= 10
                depth -= 1
            else:
                waiting[-1] += 1
        assert depth == 0
        assert waiting == [1]
        assert 2 <= deepest <= 9  # a node at depth 10 is a digit


def test_listops_source_is_binarised_as_in_the_public_files():
    tokens = tokenize("[MAX 2 [MIN 3 4 ] 5 ]")
    source = listops.to_source(tokens)
    assert source == "( ( ( ( [MAX 2 ) ( ( ( [MIN 3 ) 4 ) ] ) ) 5 ) ] )"
    assert tokenize(source) == tokens
    assert evaluate(tokens) == 5
    assert source.count("(") == source.count(")")


def test_listops_split_sizes():
    assert listops.split_sizes(100_000) == {"train": 96_000, "validation": 2000, "test": 2000}
    assert listops.split_sizes(50) == {"train": 40, "validation": 5, "test": 5}


def test_pathfinder_images_depend_on_seed_and_index():
    (image, _), (again, _), (other, _) = (pathfinder.image(*key, 32) for key in ((0, 1), (0, 1), (0, 2)))
    np.testing.assert_array_equal(image, again)
    assert not np.array_equal(image, other)
    assert image.dtype == np.uint8
    assert image.max() == 255
    assert 0.02 < (image > 0).mean() < 0.5
    labels = [pathfinder.image(0, index, 32)[1] for index in range(20)]
    assert 4 <= sum(labels) <= 16


def test_pathfinder_discs_lie_on_one_path_or_on_two(monkeypatch):
    seen = {}

    def draw(paths, ends, side):
        owners = [
            next(i for i, path in enumerate(paths) if any((end == p).all() for p in (path[0], path[-1])))
            for end in ends
        ]
        seen["same"] = owners[0] == owners[1]
        seen["long"] = all(len(paths[owner]) == pathfinder.LONG + 1 for owner in owners)
        return np.zeros((side, side), np.uint8)

    monkeypatch.setattr(pathfinder, "_draw", draw)
    for index in range(12):
        _, label = pathfinder.image(1, index, 32)
        assert seen["long"]
        assert seen["same"] == bool(label)


def test_paths_keep_clear_of_each_other():
    paths = pathfinder._paths(np.random.default_rng(4))
    assert [len(path) - 1 for path in paths] == [14, 14, 5, 5, 5, 5]
    for i, a in enumerate(paths):
        for b in paths[:i]:
            assert np.linalg.norm(a[:, None] - b[None], axis=-1).min() >= pathfinder.CLEARANCE


def test_sudoku_puzzles_have_one_solution_and_no_digit_to_spare():
    board, solution, _ = sudoku.puzzle(np.random.default_rng(0))
    assert sudoku._Solver(board, 2).solutions == [solution]
    given = [cell for cell, digit in enumerate(board) if digit]
    assert 17 <= len(given) <= 40
    for cell in given[::6]:
        assert len(sudoku._Solver([0 if i == cell else d for i, d in enumerate(board)], 2).solutions) == 2


def test_mazes_mark_a_shortest_path():
    board, solution = maze.maze(np.random.default_rng(0))
    path = np.argwhere(solution == 5)
    assert len(path) + 2 > maze.SHORTEST
    assert (board[tuple(path.T)] == 2).all()
    start, goal = (tuple(int(v) for v in np.argwhere(board == token)[0]) for token in (3, 4))
    # Cut at any cell of the path, the maze has no path that is shorter.
    assert len(maze.shortest_path(board, start, goal)) == len(path) + 2
    assert maze.shortest_path(np.full((30, 30), 1), (0, 0), (5, 5)) == []


def test_stream_is_the_same_in_any_chunks(monkeypatch):
    monkeypatch.setattr(multi_token, "_PLACES", [])
    whole = multi_token._solve(5, range(0, 12))
    parts = [multi_token._solve(5, range(start, start + 4)) for start in (0, 4, 8)]
    later_first = multi_token._solve(5, range(4, 8))
    for name in ("input_ids", "labels"):
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), whole[name])
        np.testing.assert_array_equal(later_first[name], whole[name][4:8])


def test_stand_ins_have_the_shape_of_their_tasks():
    rng = np.random.default_rng(0)
    for sample, documents, classes in ((stand_in.text, 1, 2), (stand_in.retrieval, 2, 2), (stand_in.image, 1, 10)):
        inputs, label = sample(rng)
        assert [row.shape for row in inputs] == [(stand_in.LENGTH,)] * documents
        assert 0 <= label < classes

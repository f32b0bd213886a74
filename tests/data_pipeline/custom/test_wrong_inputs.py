"""Folders and files as they should not be: one sentence each, or a note where a training can go on."""

from pathlib import Path

import numpy as np
import pytest

from data_pipeline.custom.loader import load
from data_pipeline.errors import DataError
from tests.data_pipeline.custom.files import sample

PVD = '<VTKFile type="Collection"><Collection>{}</Collection></VTKFile>'


def write(folder: Path, count: int = 4, **changed) -> None:
    """Write samples of which some arrays are others, given by functions of the sample and its number."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        arrays = sample(number)
        np.savez(folder / f"s{number}.npz", **arrays | {name: new(arrays, number) for name, new in changed.items()})


def loaded(folder: Path, **options):
    """Load a folder as a training does."""
    chosen = {"inputs": "speed", "targets": "pressure"} | options
    return load(folder, chosen.pop("n_train", 0), chosen.pop("n_test", 0), path=str(folder), **chosen)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_train": 100}, r"holds 4 samples, too few for data.n_train=100 and one that tests; provide"),
        ({"n_test": 100}, r"too few for one that trains and data.n_test=100;"),
        ({"n_val": 3}, r"too few for one that trains and one that tests and data.n_val=3;"),
        ({"files": "/tmp/*.npz"}, r"data.files='/tmp/\*.npz' is no pattern of names below a folder \(.*\);"),
        ({"targets": "points"}, r"data.targets='points' names 'points', the coordinates, which every model is"),
        ({"inputs": "points:0"}, r"data.inputs='points:0' or .* names 'points', the coordinates"),
        ({"time": "rollout", "prescribed": "wall"}, r"data.prescribed='wall' is none of the arrays .*pressure.* of"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit(tmp_path, options, words):
    for case in ("a", "b") if "time" in options else ("",):
        write(tmp_path / case)
    with pytest.raises(DataError, match=words):
        loaded(tmp_path, **options)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"points": lambda one, _: 1e200 * one["points"]}, r"12 values beyond the range of float32, 3.4e38, the l"),
        ({"cells": lambda one, _: one["cells"] + 0.5}, r"cells\] holds numbers that are no integers; store the nu"),
        ({"pressure": lambda one, _: np.full(6, 3.0)}, r"the targets pressure are the same at all training points"),
        ({"pressure": lambda one, n: np.full(6, 3.0 + (n < 0))}, r"nothing to learn; check data.targets"),
    ],
)  # fmt: skip
def test_arrays_that_no_model_can_take(tmp_path, changed, words):
    write(tmp_path, **changed)
    with pytest.raises(DataError, match=words):
        loaded(tmp_path)


def test_one_sample_is_too_few(tmp_path):
    write(tmp_path, 1)
    with pytest.raises(
        DataError, match=r"holds 1 sample, too few for one that trains and one that tests; provide more"
    ):
        loaded(tmp_path)


def test_what_is_strange_but_can_be_trained_on_is_noted(tmp_path):
    """A sample in millimetres among others in metres, and a field without anything to learn beside another."""
    write(
        tmp_path,
        12,
        points=lambda one, number: one["points"] * (1000 if number == 3 else 1),
        velocity=lambda one, _: np.ones((6, 2)),
    )
    units, same = loaded(tmp_path, targets="pressure,velocity").source.detail["notes"]
    assert units.startswith("extents far from that of the usual sample, 1.")
    assert "are often a mistake of units (mm for m): " in units
    assert "s3.npz " in units
    assert units.count(".npz") == 1
    assert same == "the same at all training points, so that nothing is learned of them: velocity"


def test_folders_of_splits_are_known_in_any_spelling(tmp_path):
    write(tmp_path / "Training", 3)
    write(tmp_path / "TEST", 2)
    dataset = loaded(tmp_path)
    assert (len(dataset.train), {name: len(test) for name, test in dataset.tests.items()}) == (3, {"test": 2})
    write(tmp_path / "train", 1)
    with pytest.raises(DataError, match=r"has Training and train, both for train; keep one of them"):
        loaded(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (
            "a.pvd",
            PVD.format('<DataSet timestep="0" file="nix.vtu"/>'),
            r"names the file 'nix.vtu', which is not there",
        ),
        (
            "a.pvd",
            PVD.format('<DataSet timestep="nan" file="s0.npz"/>'),
            r"has a step whose time is no finite number; co",
        ),
        ("a.samples.json", "[1, 2]", r"a.samples.json is no description of arrays; write"),
    ],
)
@pytest.mark.parametrize("time", ["", "input"])
def test_a_file_of_many_says_what_is_wrong_with_it(tmp_path, name, text, words, time):
    """And not that one sample is too few."""
    folder = tmp_path / "data"
    write(folder, 1 if "s0" in text else 0)
    (folder / name).write_text(text)
    with pytest.raises(DataError, match=words):
        loaded(folder, time=time)


def test_meshes_without_cells_have_no_centres(tmp_path):
    pv = pytest.importorskip("pyvista")
    for number in range(3):
        mesh = pv.UnstructuredGrid(np.zeros(0, int), np.zeros(0, np.uint8), sample(number, dimensions=3)["points"])
        mesh.point_data["pressure"] = sample(number)["pressure"]
        mesh.save(tmp_path / f"s{number}.vtu")
    with pytest.raises(DataError, match=r"has no cells whose centres could be the points; leave data.cell_data out"):
        loaded(tmp_path, inputs="", cell_data="centres")


def test_lines_have_no_boundary_with_a_size(tmp_path):
    pv = pytest.importorskip("pyvista")
    for number in range(3):
        mesh = pv.lines_from_points(sample(number, dimensions=3)["points"])
        mesh.cell_data["q"] = np.arange(mesh.n_cells) + float(number)
        mesh.save(tmp_path / f"s{number}.vtp")
    with pytest.raises(
        DataError, match=r"has cells of 1 dimensions, whose boundary has no size, which 'force:q' needs"
    ):
        loaded(tmp_path, inputs="", targets="q", cell_data="centres", integrals="force:q")


def test_series_in_two_splits_are_named_and_those_without_change_refused(tmp_path):
    """Also where the points of the copy are in another order."""
    for number, seed in enumerate((0, 1, 0)):
        folder = tmp_path / ("test" if number == 2 else "train") / f"case_{number}"
        folder.mkdir(parents=True)
        order = np.random.default_rng(0).permutation(6) if number == 2 else np.arange(6)
        for step in range(3):
            arrays = sample(seed)
            values = {"points": arrays["points"][order], "pressure": (arrays["pressure"] * (step + 1))[order]}
            np.savez(folder / f"step_{step}.npz", **values, still=arrays["pressure"][order])
    (note,) = loaded(tmp_path, inputs="", time="rollout").source.detail["notes"]
    assert note.startswith("1 sample is in two splits, so that errors there say nothing of new samples: ")
    assert note.endswith("case_2/step_0.npz of test is " + str(tmp_path / "train/case_0/step_0.npz") + " of train")
    with pytest.raises(
        DataError, match=r"the fields still of all training series stay what they are at the first step"
    ):
        loaded(tmp_path, inputs="", targets="still", time="rollout")

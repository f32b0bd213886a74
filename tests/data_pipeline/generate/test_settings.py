"""Settings of the generators, variants of a module, and reading samples back from the chunks."""

import json
import re

import numpy as np
import pytest

from data_pipeline import generate as package
from data_pipeline.generate import chunks, generate
from data_pipeline.generate.__main__ import main
from data_pipeline.generate.generator import Settings, load_generator
from data_pipeline.generate.splits import held_out
from tests.data_pipeline.generate import toy


def test_settings_reach_the_workers_and_the_source(tmp_path):
    folder = generate("darcy", tmp_path, num=2, workers=1, progress=False, resolution=9, refinement=2)
    source = json.loads((folder / "SOURCE.json").read_text())
    assert source["settings"] == {"resolution": 9, "refinement": 2}
    assert "jax" in source["libraries"]


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("toy", {"resolution": 9}, "the toy generator has no setting resolution, got 9; leave it out"),
        (
            "plasticity",
            {"refinement": 2},
            "the plasticity generator has no setting refinement, got 2; choose among resolution",
        ),
        ("pipe", {"precision": "float32"}, "the pipe generator has no setting precision, got 'float32'"),
        ("navier_stokes", {"precision": "float16"}, "precision must be 'float32' or 'float64', got 'float16'"),
        ("pipe", {"seed": 2**32}, "seed must be an integer from 0 to 4294967295, got 4294967296"),
        ("pipe", {"seed": -1}, "seed must be an integer from 0 to 4294967295, got -1"),
        ("darcy", {"resolution": 0}, "resolution must be an integer from 1 to 16384, got 0"),
        ("darcy", {"resolution": 10**8}, "resolution must be an integer from 1 to 16384, got 100000000"),
        ("darcy", {"refinement": 100}, "resolution times refinement must be at most 16384 for darcy, got 42100"),
        ("darcy", {"resolution": 4}, "resolution must be at least 5 points per side for darcy, got 4"),
        ("darcy", {"refinement": 1.5}, "refinement must be an integer from 1 to 16384, got 1.5"),
        ("navier_stokes", {"resolution": 1}, "must be at least 8 for navier_stokes, got 4"),
        ("pipe", {"resolution": 20}, "resolution must be a multiple of 8 plus 1, at least 17, for pipe, got 20"),
        ("airfoil_steady", {"resolution": 50}, "multiple of 5 plus 1, at least 11, for airfoil_steady, got 50"),
        ("plasticity", {"resolution": 100}, "multiple of 10 plus 1 for plasticity, got 100"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(tmp_path, monkeypatch, name, settings, message):
    monkeypatch.setitem(package.GENERATORS, "toy", toy.__name__)
    with pytest.raises(ValueError, match=re.escape(message)):
        generate(name, tmp_path, num=1, **settings)
    assert list(tmp_path.iterdir()) == []


def test_command_line_passes_settings(tmp_path, capsys):
    assert main(["pipe", "--resolution=12", f"--out={tmp_path}"]) == 2
    assert capsys.readouterr().err.startswith("error: resolution must be a multiple of 8 plus 1")


def test_every_name_leads_to_a_generator_of_that_name():
    for name, source in package.GENERATORS.items():
        generator = load_generator(source)
        assert generator.name == name
        if generator.configure is not None:
            again = load_generator(source, Settings(resolution=generator.settings["resolution"]))
            assert again.settings == generator.settings


def test_libraries_that_are_not_installed_are_not_recorded(monkeypatch):
    monkeypatch.setattr(package, "_LIBRARIES", ("numpy", "no-such-library"))
    assert package._versions() == {"numpy": np.__version__}


@pytest.mark.parametrize("ragged", [False, True])
def test_kept_samples_may_differ_in_length_where_they_are_ragged(tmp_path, ragged):
    for index, length in enumerate((3, 5)):
        np.savez(tmp_path / f"{index:08d}-{index + 1:08d}.npz", values=np.zeros((1, length)))
    todo = chunks.unfinished(tmp_path, chunks.split(2, 1), ragged)
    assert len(todo) == (0 if ragged else 2)


def test_samples_are_read_whole_or_row_by_row(tmp_path):
    ranges = chunks.split(5, 2)
    values = np.arange(15.0).reshape(5, 3)
    for indices in ranges:
        part = {"values": values[indices.start : indices.stop], "number": np.arange(indices.start, indices.stop)}
        np.savez(tmp_path / f"{indices.start:08d}-{indices.stop:08d}.npz", **part)
    samples = chunks.Samples(tmp_path, ranges)
    assert (samples.num, list(samples), len(samples)) == (5, ["values", "number"], 2)
    np.testing.assert_array_equal(samples["values"], values)
    rows = list(samples.rows())
    assert [int(row["number"]) for row in rows] == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(np.stack([row["values"] for row in rows]), values)


def test_samples_held_out_for_testing():
    assert [held_out(num, 200, 1200) for num in (1, 2, 12, 1200)] == [0, 1, 2, 200]

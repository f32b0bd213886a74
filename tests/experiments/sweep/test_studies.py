"""Every study of the project: its smoke variant from the runs to the figures, and its published numbers."""

import csv
import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from flax import nnx

from configs.lm import get_config as get_language_config
from data_pipeline.registry import find_record
from experiments.lm import models
from experiments.pdebench.models import check_model
from experiments.sweep import jobs
from experiments.sweep.figures import Bars
from experiments.sweep.main import command_lines, execute, report
from experiments.sweep.rows import make_row, read_csv, write_csv
from experiments.sweep.runs import plan_runs
from experiments.sweep.study import Measurement, load_study
from flare_jax.models.registry import MODELS
from flare_jax.params import count_parameters, split
from studies import language
from studies.common import tiny
from studies.comparison import NAMES
from tests.experiments.additive import parts
from tests.experiments.programs import ROOT, environment, write_elasticity
from tests.program_server import Forked

STUDIES = sorted(path.stem for path in (ROOT / "studies").glob("*.py") if path.stem not in ("__init__", "common"))
# Its places are numbers of points, beside those at which ours are measured.
BETWEEN = ("time_memory",)
UNPUBLISHED = ("additive", "language", "mixers", "recall", "routing", "spectra")
# Trainings and measurements, which have different numbers.
MIXED = ("language",)


def launch(command, log, changes):
    """Start a job as `jobs.launch` does, but by the program server."""
    module, arguments = command
    with log.open("ab") as file:
        words = [sys.executable, "-m", module, *arguments]
        return Forked(words, stdout=file, stderr=file, env=environment(**changes), cwd=ROOT)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Data for all studies, and one folder of runs, so that equal ones are made once."""
    data = tmp_path_factory.mktemp("data")
    write_elasticity(data)
    parts.write_series(data / "LPBF_FLARE" / "series")
    return tmp_path_factory.mktemp("out"), data


def _plan(name, folders):
    study = load_study(f"studies/{name}.py:smoke")
    return study, plan_runs(study, folders[0], data_dir=str(folders[1]))


@pytest.mark.parametrize("name", STUDIES)
def test_the_smoke_variant_ends_in_tables_and_figures(name, folders, capsys):
    study, runs = _plan(name, folders)
    done = execute(study, runs, [jobs.Slot(None, {})] * 2, launch)
    assert done, "\n".join((run.folder / jobs.LOG).read_text()[-2000:] for run in runs)
    assert command_lines(runs) == []
    rows = report(study, runs, folders[0])
    values = [row for row in rows if row.values]
    assert len(values) == len(runs)
    found = [{name for name, value in row.values.items() if math.isfinite(value.mean)} for row in values]
    for names in [set().union(*found)] if name in MIXED else found:
        assert names >= set(study.metrics)
    folder = folders[0] / study.name
    with (folder / "results.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(rows)
    assert [float(line[study.metrics[0]]) for line in lines if line[study.metrics[0]]]
    assert f"| {' | '.join(study.columns)} | seeds |" in (folder / "results.md").read_text()
    assert {path.stem for path in folder.glob("*.png")} == set(study.figures)


@pytest.mark.parametrize("name", STUDIES)
def test_published_numbers_belong_to_runs_and_their_figures_show_them(name):
    study = load_study(f"studies/{name}.py")
    runs = plan_runs(study, Path("nowhere"))
    places = {tuple(run.labels.get(column) for column in study.columns) for run in runs}
    assert len(places) == len(runs)
    for numbers in study.published.values():
        assert all(value > 0 for value in numbers.values())
        assert name in BETWEEN or set(numbers) <= places
    assert name in UNPUBLISHED or study.published[study.metrics[0]]
    rows = report_rows(study, runs)
    for drawing in study.figures.values():
        drawn = drawing.draw(study.title, rows)
        labels = [text for axes in drawn.axes for text in (*axes.get_legend_handles_labels()[1], axes.get_title())]
        assert name in UNPUBLISHED or any("published" in label for label in labels)


def report_rows(study, runs):
    found = [(labels, seeds) for run in runs for labels, seeds in run.results()]
    if isinstance(study.parts[0], Measurement):
        found = [(labels, []) for labels, _ in study.parts[0].read(Path("nowhere"))]
    return [make_row(labels, seeds, study.columns, study.published) for labels, seeds in found]


def test_equal_runs_of_two_studies_are_one(folders):
    _, heads = _plan("num_heads", folders)
    _, spectra = _plan("spectra", folders)
    assert {run.folder for run in spectra} <= {run.folder for run in heads}


def test_a_part_may_have_seeds_of_its_own():
    study = load_study("studies/latent_blocks.py:smoke")
    part = replace(study.parts[0], options={**study.parts[0].options, "train.seeds": (3, 4)})
    study = replace(study, parts=(part,))
    (own,), (given,) = plan_runs(study, Path("nowhere")), plan_runs(study, Path("nowhere"), (5,))
    assert (own.config.train.seeds, own.config.train.parallel_seeds) == ((3, 4), 2)
    assert given.config.train.seeds == (5,)


def test_profiles_have_others_beside_them_and_no_empty_panels():
    of = {"error_by_step_1": 0.1, "error_by_step_2": 0.3, "error_by_step_true_2": 0.2, "error": 0.2}
    rows = [
        make_row({"task": "series", "model": "flare"}, [of], ("task", "model"), {}),
        make_row({"task": "final", "model": "flare"}, [{"error": 0.1}], ("task", "model"), {}),
    ]
    (axes,) = load_study("studies/additive.py").figures["additive_error_by_step"].draw("Parts", rows).axes
    assert axes.get_legend_handles_labels()[1] == ["flare", "flare, true states"]
    lines = [container.lines[0] for container in axes.containers]
    assert [line.get_xydata().tolist() for line in lines] == [[[1, 0.1], [2, 0.3]], [[2, 0.2]]]


def test_bars_are_in_the_order_of_their_errors_without_places_for_what_has_none():
    columns, published = ("data", "model"), {"error": {("darcy", "c"): 0.1, ("darcy", "a"): 0.4}}
    errors = {"a": [{"error": 0.3}], "b": [{"error": 0.2}, {"error": 0.1}], "c": [], "d": []}
    rows = [make_row({"data": "darcy", "model": name}, seeds, columns, published) for name, seeds in errors.items()]
    (axes,) = Bars(bars="model", panels="data").draw("Models", rows).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["b", "a", "c"]
    (empty,) = Bars(bars="model", panels="data").draw("Models", rows[3:]).axes
    assert not empty.patches


def test_a_table_is_read_as_it_was_written_and_has_no_column_twice(tmp_path):
    columns, published = ("data", "num_blocks"), {"error": {("darcy", 8): 0.1, ("darcy", 2): 0.4}}
    seeds = {2: [{"error": 0.25}, {"error": 0.75}], 4: [{"error": 0.5, "parameters": 7}], 8: []}
    rows = [
        make_row({"data": "darcy", "num_blocks": n}, found, columns, published, "generated")
        for n, found in seeds.items()
    ]
    write_csv(tmp_path / "results.csv", columns, rows)
    head = (tmp_path / "results.csv").read_text().splitlines()[0].split(",")
    assert len(set(head)) == len(head)
    assert [round_numbers(row) for row in read_csv(tmp_path / "results.csv", columns, published)] == [
        round_numbers(row) for row in rows
    ]


def round_numbers(row):
    values = {name: replace(one, mean=round(one.mean, 6), std=round(one.std, 6)) for name, one in row.values.items()}
    return replace(row, values=values)


@pytest.mark.parametrize("name", ["mixers", "mixers_darcy", "mixers_backbones_darcy", "routing", "routing_small"])
def test_a_variant_is_in_the_name_of_its_tables_once(name):
    file, _, variant = name.partition("_")
    assert load_study(f"studies/{file}.py" + (f":{variant}" if variant else "")).name == name


def test_all_models_are_compared_on_the_data_that_they_can_take():
    parts = load_study("studies/comparison.py:all").parts
    assert {NAMES.get(part.labels["model"], part.labels["model"]) for part in parts} == set(MODELS)
    on = {part.labels["data"] for part in parts if part.labels["model"] == "mesh_graph_net"}
    assert on == {part.labels["data"] for part in parts if find_record(part.labels["data"]).has_edges} == {"lpbf"}


def test_tiny_sizes_fit_together():
    """Of the model with the most conditions between its sizes."""
    part = next(part for part in load_study("studies/comparison.py").parts if part.labels["model"] == "LaMO")
    study = replace(load_study("studies/comparison.py:smoke"), parts=(replace(part, options=tiny(part.config)),))
    (run,) = plan_runs(study, Path("nowhere"))
    check_model(run.config)


def test_language_models_that_are_compared_have_equal_parameters():
    def parameters(name, options):
        config = get_language_config(f"model={name},size=15M")
        config.update_from_flattened_dict(options)
        return count_parameters(split(nnx.eval_shape(lambda: models.build(config, 256, 0)))[1])

    counts = {name: parameters(*of) for name, of in language.MODELS.items()}
    assert max(counts.values()) < 1.015 * min(counts.values()), counts

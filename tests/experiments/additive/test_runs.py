"""What is done with the two trained runs of these tests: reports, marches, predictions.

They are one file, so that one test process makes each of the runs once.
"""

import csv
import json

import numpy as np
import pytest

from data_pipeline.pde import am_series
from experiments.sweep.study import load_study
from tests.experiments.additive import parts
from tests.experiments.programs import draw_no_more, pdebench
from tests.program_server import run_program

pytestmark = pytest.mark.slow


def predict(*arguments):
    return run_program("experiments.predict", arguments)


def rows_of(path):
    with path.open() as file:
        return list(csv.reader(file))


def test_a_run_reports_every_step_of_every_part(series_run):
    summary = json.loads((series_run / "eval.json").read_text())
    names = {split: summary["data"]["detail"]["samples"][split] for split in ("train", "test")}
    assert {
        "test/rel_l2_teacher_forced",
        "test/rel_l2_copy_last",
        "test/rel_l2_nearest_fill",
        "test/rel_l2_last",
        "test/rms/disp_z",
    } <= set(summary)
    for split, parts_of_split in names.items():
        table = rows_of(series_run / f"r2_stats_{split}.txt")
        assert table[0] == parts_of_split
        assert len(table) == 1 + 5
        assert set(table[1]) == {""}  # the state that is given
        heights = {"part_0": 3, "part_1": 4, "part_2": 5, "part_3": 3, "part_4": 4, "part_5": 5}
        for column, name in enumerate(table[0]):
            assert [bool(row[column]) for row in table[1:]] == [0 < step < heights[name] for step in range(5)]
        assert len(rows_of(series_run / f"{split}_stats.txt")) == 1 + len(parts_of_split)
        column = [float(cell) for cell in table[2] if cell]
        assert summary[f"{split}/r2_by_frame_median"][1] == pytest.approx(np.median(column), rel=1e-5)
    marched, forced = (summary[f"test/rel_l2_by_frame{of}"] for of in ("", "_teacher_forced"))
    assert (marched[0], forced[0]) == (None, None)
    assert marched[1] == pytest.approx(forced[1], rel=1e-5)  # from a true state in both
    assert marched[2] != forced[2]
    medians = json.loads((series_run / "r2_medians.json").read_text())
    assert np.isfinite(medians["test"]["r2"]["median"])
    assert np.isfinite(medians["train"]["rel_l2_pooled"])
    figures = {path.name for path in (series_run / "figures").iterdir()}
    assert {"r2_boxplot.png", "test_parts.png", "test_median_disp_z.png", "learning_curve.png"} <= figures


def test_series_open_as_growing_meshes(series_run, series_data):
    pv = pytest.importorskip("pyvista")
    summary = json.loads((series_run / "eval.json").read_text())
    name = summary["data"]["detail"]["samples"]["test"][0]
    (file,) = (series_run / "paraview").glob(f"am_series_mesh_graph_net_smoke-test*-{name}.pvd")
    reader = pv.get_reader(str(file))
    case = am_series.read_series(series_data / "LPBF_FLARE" / "series" / f"{name}.npz")
    assert reader.time_values == list(range(len(case.zmax)))
    counts = []
    for step in reader.time_values:
        reader.set_active_time_value(step)
        mesh = reader.read()[0]
        counts.append(mesh.n_cells)
        there = mesh.point_data["mask"] > 0
        np.testing.assert_allclose(
            mesh.point_data["disp_z_error"], mesh.point_data["disp_z_predicted"] - mesh.point_data["disp_z"], atol=1e-5
        )
        np.testing.assert_allclose(mesh.point_data["vm"][there], case.vmstr[int(step), there, 0], rtol=1e-4)
    layers = np.round(case.pos[case.elems][:, :, 2].max(axis=1) / parts.SIZE)
    assert counts == [int((layers <= step + 1).sum()) for step in range(len(case.zmax))]


def test_marching_from_another_step(series_run):
    before = (series_run / "eval.json").read_bytes()
    draw_no_more(series_run)
    result = pdebench("--mode=eval", f"--workdir={series_run}", "--march_from=2")
    assert result.returncode == 0, result.stderr
    assert (series_run / "eval.json").read_bytes() == before
    table, original = (rows_of(folder / "r2_stats_test.txt") for folder in (series_run / "march_from_2", series_run))
    assert set(table[2]) == {""}
    assert table[1:] != original[1:]
    assert json.loads((series_run / "march_from_2" / "eval.json").read_text())["test/rel_l2"] > 0
    result = pdebench("--mode=eval", f"--workdir={series_run}", "--march_from=9")
    assert result.returncode == 2
    assert "task.first=9, but am_series has states 0 to 4" in result.stderr
    result = pdebench("--config=configs/flare_elas.py:smoke", "--teacher_forced")
    assert result.returncode == 2
    assert "--teacher_forced is for --mode=eval of a run on printed parts layer by layer" in result.stderr


def test_a_graph_network_on_two_fields(final_run):
    options = json.loads((final_run / "config.json").read_text())["model_options"]
    assert options["edge_dim"] == 4  # the vector, and the mark of hanging nodes
    summary = json.loads((final_run / "eval.json").read_text())
    assert summary["fields"] == ["disp_z", "vm"]
    assert 0 < summary["test/rel_l2/vm"] < np.inf
    assert {"test/rms/disp_z", "test/max_error/vm", "test/rel_l2_largest/vm", "test/rel_l2_mean_predictor"} <= set(
        summary
    )
    assert summary["test/rel_l2_nearest_parts"] < summary["test/rel_l2_mean_predictor"]
    for part in load_study("studies/additive.py:final").parts:
        assert set(part.collect.values()) <= set(summary)
    medians = json.loads((final_run / "r2_medians.json").read_text())
    assert medians["train"]["parts"] == 4
    table = (final_run / "test_stats.txt").read_text().splitlines()
    assert table[0] == "case_num,case_name,MSE,R-Square"
    assert [row.split(",")[1] for row in table[1:]] == ["case00004_part_4", "case00005_part_5"]
    assert {"r2_boxplot.png", "train_parts.png"} <= {path.name for path in (final_run / "figures").iterdir()}


def test_meshes_surfaces_and_published_files(final_run, final_data, cube, tmp_path):
    """A graph network takes the published arrays, a mesh file with the same hexahedra, and a surface."""
    pv = pytest.importorskip("pyvista")
    part = final_data / "LPBF_FLARE" / "test" / "case00004_part_4.npz"
    result = predict(f"--workdir={final_run}", f"--input={part}", f"--output={tmp_path / 'a.vtu'}")
    assert result.returncode == 0, result.stderr
    made, raw = pv.read(tmp_path / "a.vtu"), np.load(part)
    assert made.n_cells == len(raw["elems"])
    difference = made.point_data["disp_z_predicted"] - raw["disp"][:, 2]
    np.testing.assert_allclose(made.point_data["disp_z_error"], difference, atol=1e-5)
    assert "vm: " in result.stdout
    # The same prediction as that of the run's own evaluation.
    (own,) = (final_run / "paraview").glob("*-test*-case00004_part_4.vtu")
    np.testing.assert_allclose(pv.read(own).point_data["vm_predicted"], made.point_data["vm_predicted"], rtol=1e-3)
    cells = np.insert(raw["elems"], 0, 8, axis=1).ravel()
    pv.UnstructuredGrid(cells, np.full(len(raw["elems"]), 12, np.uint8), raw["pos"]).save(tmp_path / "mesh.vtu")
    result = predict(f"--workdir={final_run}", f"--input={tmp_path / 'mesh.vtu'}", f"--output={tmp_path / 'b.npz'}")
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(np.load(tmp_path / "b.npz")["vm_predicted"], made.point_data["vm_predicted"], rtol=1e-4)
    result = predict(f"--workdir={final_run}", f"--input={cube}", f"--output={tmp_path / 'c.vtu'}")
    assert result.returncode == 0, result.stderr
    assert "voxelised to" in result.stdout
    solid = pv.read(tmp_path / "c.vtu")
    assert set(solid.celltypes) == {12}
    assert np.isfinite(solid.point_data["disp_z_predicted"]).all()
    pv.PolyData(raw["pos"]).save(tmp_path / "cloud.vtp")
    result = predict(f"--workdir={final_run}", f"--input={tmp_path / 'cloud.vtp'}", f"--output={tmp_path / 'd.vtp'}")
    assert result.returncode == 2
    assert "has no hexahedra, to whose surface" in result.stderr
    output = f"--output={tmp_path / 'e.vtu'}"
    result = predict(f"--workdir={final_run}", f"--input={part}", output, "--points_per_piece=9")
    assert result.returncode == 2
    assert "error: points_per_piece=9, but points in pieces need a model of FLARE or FLARE++, and this" in result.stderr


def test_series_are_marched(series_run, series_data, cube, tmp_path):
    pv = pytest.importorskip("pyvista")
    part = series_data / "LPBF_FLARE" / "series" / "part_5.npz"
    result = predict(f"--workdir={series_run}", f"--input={part}", f"--output={tmp_path / 'out' / 'march.pvd'}")
    assert result.returncode == 0, result.stderr
    assert "part_5: 5 steps in" in result.stdout
    reader = pv.get_reader(str(tmp_path / "out" / "march.pvd"))
    reader.set_active_time_value(4)
    last = reader.read()[0]
    np.testing.assert_allclose(last.point_data["disp_z"], np.load(part)["disp"][4, :, 2], atol=1e-5)
    assert np.abs(last.point_data["disp_z_error"]).max() > 0
    result = predict(f"--workdir={series_run}", f"--input={part}", f"--output={tmp_path / 'march.npz'}")
    assert result.returncode == 0, result.stderr
    predicted = np.load(tmp_path / "march.npz")["disp_z_predicted"]
    np.testing.assert_allclose(predicted[4], last.point_data["disp_z_predicted"], atol=1e-5)
    for source, message in ((cube, "has no state after the first group"), (tmp_path / "no.npz", "does not exist")):
        result = predict(f"--workdir={series_run}", f"--input={source}", f"--output={tmp_path / 'no.pvd'}")
        assert result.returncode == 2
        assert message in result.stderr
    output = f"--output={tmp_path / 'no.pvd'}"
    result = predict(f"--workdir={series_run}", f"--input={part}", output, "--points_per_piece=9")
    assert result.returncode == 2
    assert "error: --points_per_piece=9, but a run on printed parts layer by layer predicts all points" in result.stderr

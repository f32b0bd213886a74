"""Predictions with a trained run, as a user makes them: files in, files out, errors where the truth is there."""

import json
import logging
import shutil

import h5py
import numpy as np
import pytest

import flare_jax
from data_pipeline.custom.example import write_example
from data_pipeline.custom.readers import Reference
from data_pipeline.errors import DataError
from experiments.errors import UserError
from experiments.predict import main as program
from experiments.predict.output import Output
from tests.experiments.programs import pdebench
from tests.program_server import run_program


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Flows far from the origin, whose coordinates float32 has too few digits for."""
    folder = write_example(tmp_path_factory.mktemp("ellipses"), 12, "npz")
    for path in folder.rglob("*.npz"):
        arrays = dict(np.load(path))
        # The points are numbered in rings around the body, the first of which is on it.
        body = (np.arange(len(arrays["points"])) < arrays["cells_triangle"][0, 1]).astype(np.float32)
        np.savez(path, **{**arrays, "points": arrays["points"] + np.array([5e5, 4.6e6]), "body": body})
    return folder


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    result = pdebench(
        "--config=configs/custom.py:smoke", f"--config.data.path={data}", "--config.data.stream=always",
        "--config.data.integrals=force:pressure@body; flux:velocity",
        "--config.data.reference=density=1,speed=2,area=3",
        "--config.model.channel_dim=8", "--config.model.num_blocks=1", "--config.model.num_heads=2",
        "--config.model.num_latents=4", "--config.model.num_layers_k_proj=0", "--config.model.num_layers_v_proj=0",
        "--config.model.num_layers_ffn=0", "--config.model.num_layers_in_out_proj=0", "--config.train.epochs=2",
        "--config.eval.simple_predictors=False",
        f"--data_dir={folder / 'data'}", f"--workdir={folder / 'run'}",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "own files in" in result.stdout
    assert "waiting for input" in result.stdout
    assert (folder / "data" / "cache").is_dir()
    return folder / "run"


def predict(*arguments):
    return run_program("experiments.predict", arguments)


@pytest.mark.slow
def test_a_file_with_the_truth(data, run, tmp_path, caplog):
    source, target = data / "test" / "ellipse_0011.npz", tmp_path / "out" / "pred.npz"
    result = predict(f"--workdir={run}", f"--input={source}", f"--output={target}", f"--figure={tmp_path / 'pred.png'}")
    assert result.returncode == 0, result.stderr
    given, made = np.load(source), np.load(target)
    np.testing.assert_array_equal(made["points"], given["points"])
    assert (given["points"] != given["points"].astype(np.float32)).any()
    np.testing.assert_array_equal(made["cells_triangle"], given["cells_triangle"])
    np.testing.assert_array_equal(made["velocity"], given["velocity"])
    difference = made["pressure_predicted"] - given["pressure"]
    np.testing.assert_allclose(made["pressure_error"], difference, rtol=1e-5, atol=1e-6)
    errors = json.loads((tmp_path / "out" / "pred.errors.json").read_text())["ellipse_0011"]
    relative = np.linalg.norm(difference) / np.linalg.norm(given["pressure"])
    np.testing.assert_allclose(errors["pressure"]["rel_l2"], relative, rtol=1e-5)
    assert "velocity: error in units of the spread " in result.stdout
    with caplog.at_level(logging.WARNING):
        surrogate = flare_jax.load(run)
    assert caplog.messages == []
    fields = surrogate.predict(given["points"], {"angle": given["angle"]}, pad=False)
    np.testing.assert_array_equal(fields["velocity"], made["velocity_predicted"])
    np.testing.assert_array_equal(fields["pressure"][:, 0], made["pressure_predicted"])
    surrogate.save(tmp_path / "saved")
    result = predict(f"--workdir={tmp_path / 'saved'}", f"--input={source}", f"--output={tmp_path / 'again.npz'}")
    assert result.returncode == 0, result.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "again.npz")["velocity_predicted"], made["velocity_predicted"])
    assert (tmp_path / "pred.png").read_bytes().startswith(b"\x89PNG")
    judged = json.loads((tmp_path / "out" / "pred.range.json").read_text())["ellipse_0011"]
    assert judged["score"] >= judged["geometry"] > 0
    scores = json.loads((run / "eval.json").read_text())["test/range"]
    assert set(scores) == {"ellipse_0010", "ellipse_0011"}
    np.testing.assert_allclose(scores["ellipse_0011"], judged["score"], rtol=1e-3)
    # The run's own evaluation of this sample, which weighs both fields alike, says the same.
    scales = json.loads((run / "config.json").read_text())["prediction"]["scales"]
    error = np.column_stack([made["pressure_error"], made["velocity_error"]]) / scales
    rows = (run / "per_case.csv").read_text().splitlines()
    columns = dict(zip(rows[0].split(","), rows[2].split(","), strict=True))
    assert (columns["split"], columns["case"], columns["name"]) == ("test", "1", "ellipse_0011")
    np.testing.assert_allclose(errors["pressure"]["rel_l2"], float(columns["rel_l2/pressure_ema"]), rtol=1e-4)
    np.testing.assert_allclose(
        np.linalg.norm(error) / np.sqrt(2 * len(error)), float(columns["rel_spread_ema"]), rtol=1e-4
    )
    by_field = [errors[name]["rel_spread"] for name in ("pressure", "velocity")]
    np.testing.assert_allclose(by_field[0], float(columns["rel_spread/pressure_ema"]), rtol=1e-4)
    np.testing.assert_allclose(np.sqrt(np.mean(np.square(by_field))), float(columns["rel_spread_ema"]), rtol=1e-4)


@pytest.mark.slow
def test_integrals_of_truth_and_prediction(data, run, tmp_path):
    """Those of a file are those of the run's evaluation, and those that its fields have; coefficients are a sixth."""
    source, target = data / "test" / "ellipse_0011.npz", tmp_path / "pred.npz"
    result = predict(f"--workdir={run}", f"--input={source}", f"--output={target}")
    assert result.returncode == 0, result.stderr
    rows = [row.split(",") for row in (tmp_path / "pred.integrals.csv").read_text().splitlines()]
    found = {(name, component): (float(true), float(value)) for _, name, component, true, value in rows[1:]}
    evaluated = [row.split(",") for row in (run / "integrals_test.csv").read_text().splitlines()]
    for case, name, component, true, value in evaluated[1:]:
        if case == "ellipse_0011":
            np.testing.assert_allclose((float(true), float(value)), found[name, component], rtol=1e-3, atol=2e-5)
    made = np.load(target)
    ring = made["points"][made["body"] > 0]
    along = (np.roll(ring, -1, axis=0) - ring) @ np.array([[0.0, -1.0], [1.0, 0.0]])  # counterclockwise, so outwards
    for kind, place in (("pressure", 0), ("pressure_predicted", 1)):
        pressure = made[kind][made["body"] > 0]
        force = -((pressure + np.roll(pressure, -1)) / 2) @ along
        for component, expected in zip("xy", force, strict=True):
            np.testing.assert_allclose(found["force:pressure@body", component][place], expected, rtol=1e-3, atol=1e-5)
            coefficient = found["force:pressure@body", f"c{component}"][place]
            np.testing.assert_allclose(coefficient, expected / 6, rtol=1e-3, atol=1e-5)
    summary = json.loads((run / "eval.json").read_text())["test/integrals"]
    assert summary["flux:velocity"][""]["mean_error"] > 0
    assert "force:pressure@body: x mean error" in result.stdout


@pytest.mark.slow
def test_pieces_do_not_show(data, run, tmp_path):
    source, made = data / "test" / "ellipse_0011.npz", {}
    for size in (0, 100):
        target = tmp_path / f"{size}.npz"
        result = predict(f"--workdir={run}", f"--input={source}", f"--output={target}", f"--points_per_piece={size}")
        assert result.returncode == 0, result.stderr
        made[size] = np.load(target)["pressure_predicted"]
    np.testing.assert_allclose(made[100], made[0], rtol=1e-4, atol=1e-5)
    assert (made[100] != made[0]).any(), "other programs round in another way"
    copy = shutil.copytree(run, tmp_path / "run")
    config = json.loads((copy / "config.json").read_text())
    config["config"]["task"]["points_per_piece"] = 100
    (copy / "config.json").write_text(json.dumps(config))
    given = np.load(source)
    fields = flare_jax.load(copy).predict(given["points"], {"angle": given["angle"]}, pad=False)
    np.testing.assert_array_equal(fields["pressure"][:, 0], made[100], "those of the evaluation are the default")
    result = predict(f"--workdir={run}", f"--input={source}", f"--output={target}", "--points_per_piece=-1")
    assert result.returncode == 2
    assert "error: --points_per_piece=-1 must not be negative; 0 predicts all points at once" in result.stderr


@pytest.mark.slow
def test_weights_are_those_of_the_report_unless_others_are_chosen(data, run, tmp_path):
    source, made = data / "test" / "ellipse_0011.npz", {}
    for kind in ("default", "ema", "raw"):
        chosen = () if kind == "default" else (f"--weights={kind}",)
        target = tmp_path / f"{kind}.npz"
        result = predict(f"--workdir={run}", f"--input={source}", f"--output={target}", *chosen)
        assert result.returncode == 0, result.stderr
        made[kind] = np.load(target)["pressure_predicted"]
    np.testing.assert_array_equal(made["default"], made["ema"])
    assert (made["raw"] != made["ema"]).any()


@pytest.mark.slow
def test_the_run_names_every_field_and_file(run):
    summary = json.loads((run / "eval.json").read_text())
    assert summary["fields"] == ["pressure", "velocity"]
    assert 0 < summary["test/rel_l2/velocity"] < np.inf
    assert summary["data"]["detail"]["samples"]["test"] == ["ellipse_0010", "ellipse_0011"]
    figures = {path.name for path in (run / "figures").iterdir()}
    assert {"test_median_pressure.png", "test_median_velocity.png"} <= figures


@pytest.mark.slow
def test_one_unreadable_file_does_not_stop_the_rest(data, run, tmp_path):
    pv = pytest.importorskip("pyvista")
    source = tmp_path / "own"
    source.mkdir()
    arrays = dict(np.load(data / "test" / "ellipse_0010.npz"))
    arrays["pressure"][3] = np.nan
    np.savez(source / "a.npz", **arrays, note=np.array("kept"))
    (source / "b.npz").write_bytes(b"broken")
    (source / "c.h5").write_bytes(b"broken")
    points = np.pad(arrays["points"].astype(np.float64), [(0, 0), (0, 1)])
    mesh = pv.PolyData(points, faces=np.insert(arrays["cells_triangle"], 0, 3, axis=1).ravel())
    mesh.field_data["angle"] = [0.1]
    mesh.cell_data["kept"] = np.arange(mesh.n_cells)
    mesh.save(source / "d.vtp")
    result = predict(
        f"--workdir={run}", f"--input={source}", f"--output={tmp_path / 'out'}", f"--figure={tmp_path / 'a.png'}"
    )
    assert result.returncode == 2
    assert "2 of 4 samples could not be predicted, for the reasons above: b, c;" in result.stderr
    assert "b.npz cannot be read as an npz archive" in result.stderr
    assert "c.h5 cannot be read as an HDF5 file" in result.stderr
    assert "Traceback" not in result.stderr
    assert "no number at 1 points, which do not count" in result.stdout
    assert "marks the region of 'force:pressure@body' by 'body', which is not there" in result.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a.npz",
        "d.vtp",
        "errors.json",
        "integrals.csv",
        "range.json",
    ]
    made = np.load(tmp_path / "out" / "a.npz")
    assert str(made["note"]) == "kept"
    assert np.isfinite(made["pressure_predicted"]).all()
    assert list(np.flatnonzero(np.isnan(made["pressure_error"]))) == [3]
    back = pv.read(tmp_path / "out" / "d.vtp")
    assert back.points.dtype == np.float64
    np.testing.assert_array_equal(back.points, points)
    np.testing.assert_array_equal(back.cell_data["kept"], mesh.cell_data["kept"])
    assert back.point_data["velocity_predicted"].shape == points.shape
    assert (tmp_path / "a.png").exists()


def _with_two_seeds(run, folder):
    """Return a folder like that of a run of seeds 0 and 5, in which only the latter has checkpoints."""
    folder.mkdir()
    shutil.copytree(run / "checkpoints", folder / "seed_5" / "checkpoints")
    content = json.loads((run / "config.json").read_text())
    content["config"]["train"]["seeds"] = [0, 5]
    (folder / "config.json").write_text(json.dumps(content))
    return folder


@pytest.mark.slow
def test_several_samples(data, run, tmp_path):
    (tmp_path / "geometry").mkdir()
    for number, name in enumerate(("ellipse_0010", "ellipse_0011")):
        arrays = dict(np.load(data / "test" / f"{name}.npz"))
        if number:  # one of them is a geometry whose flow is not known
            arrays = {key: arrays[key] for key in ("points", "angle")}
        np.savez(tmp_path / "geometry" / f"{name}.npz", **arrays)
    folder = _with_two_seeds(run, tmp_path / "run")
    result = predict(
        f"--workdir={folder}", f"--input={tmp_path / 'geometry'}", f"--output={tmp_path / 'all.h5'}", "--seed=5"
    )
    assert result.returncode == 0, result.stderr
    assert "2 predictions" in result.stdout
    assert "errors of 1 sample in" in result.stdout
    with h5py.File(tmp_path / "all.h5", "r") as file:
        assert set(file) == {"ellipse_0010", "ellipse_0011"}
        unknown = file["ellipse_0011"]
        assert set(unknown) == {"points", "angle", "pressure_predicted", "velocity_predicted"}
        assert unknown["velocity_predicted"].shape == unknown["points"].shape
        np.testing.assert_array_equal(unknown["angle"][()], arrays["angle"])


@pytest.mark.slow
def test_refusals_are_one_sentence(run, data, tmp_path):
    for arguments, words in (
        (("--workdir=nowhere", "--input=a.npz", "--output=b.npz"), "there is no run in it"),
        ((f"--workdir={run}", f"--input={data}/test/ellipse_0011.npz", "--output=b.npz", "--seed=7"), "seeds (0,)"),
        (
            (f"--workdir={run}", f"--input={data}/test", "--output=b", "--figure=a.gif"),
            "is no series; choose a .png file",
        ),
        (
            (f"--workdir={run}", f"--input={data}/test", "--output=b", "--figure=a.doc"),
            "--figure=a.doc must end in .png, or for a series in .gif; rename it",
        ),
    ):
        result = predict(*arguments)
        assert result.returncode == 2
        assert words in result.stderr
        assert result.stderr.count("error: ") == 1
        assert "Traceback" not in result.stderr


def _output(source, target):
    return Output(program._references(source), source, target)


def test_inputs_and_outputs_that_do_not_fit(data, tmp_path):
    one = data / "test" / "ellipse_0011.npz"
    assert _output(one, tmp_path / "a.h5").place(Reference(one)) == tmp_path / "a.h5"
    assert len(program._references(data)) == 12
    assert _output(data, tmp_path / "folder").place(Reference(one)) == tmp_path / "folder" / "ellipse_0011.npz"
    for source, target, message in (
        (tmp_path / "none.npz", tmp_path / "a.npz", "does not exist; check the path"),
        (one, tmp_path / "a.txt", "a.txt is of no known format"),
        (data, tmp_path / "a.npz", "holds 12 samples; name a folder or an HDF5 file"),
        (one, one, "is the input itself"),
        (data, data / "test", "is the input itself"),
    ):
        with pytest.raises((UserError, ValueError), match=message):
            _output(source, target)


@pytest.mark.parametrize(("target", "place"), [("out", "out/a.npz"), ("out.h5", "out.h5/a")])
def test_samples_of_one_name_are_refused(data, tmp_path, target, place):
    source = tmp_path / "own"
    for split in ("train", "test"):
        (source / split).mkdir(parents=True)
        shutil.copy(data / "test" / "ellipse_0011.npz", source / split / "a.npz")
    message = rf"test/a.npz and .*train/a.npz are both predicted to {tmp_path}/{place}, .*; rename one, or predict"
    with pytest.raises(UserError, match=message):
        _output(source, tmp_path / target)


def test_a_folder_of_one_sample_is_predicted_to_a_folder(data, tmp_path):
    source = tmp_path / "own"
    source.mkdir()
    shutil.copy(data / "test" / "ellipse_0011.npz", source / "a.npz")
    (reference,) = program._references(source)
    assert _output(source, tmp_path / "out").place(reference) == tmp_path / "out" / "a.npz"
    assert _output(source, tmp_path / "one.h5").place(reference) == tmp_path / "one.h5"
    with pytest.raises(DataError, match="is of no known format"):
        _output(source / "a.npz", tmp_path / "out")


def test_formats_without_fields_become_vtu(tmp_path):
    source = tmp_path / "own"
    source.mkdir()
    for name in ("a.stl", "b.vtk", "c.npz", "d.msh", "e.xdmf"):
        (source / name).touch()
    output = _output(source, tmp_path / "out")
    places = {reference.path.name: output.place(reference).name for reference in program._references(source)}
    assert places == {"a.stl": "a.vtu", "b.vtk": "b.vtk", "c.npz": "c.npz", "d.msh": "d.vtu", "e.xdmf": "e.xdmf"}
    assert output.remarks() == ["files of the format .msh and .stl hold no fields: their predictions are .vtu files"]
    single = _output(source / "a.stl", tmp_path / "out.stl")
    assert single.path == tmp_path / "out.vtu"
    assert single.remarks() == ["files of the format .stl hold no fields: their predictions are .vtu files"]
    (source / "a.vtu").touch()
    with pytest.raises(UserError, match=r"a.stl and .*a.vtu are both predicted to .*out/a.vtu"):
        _output(source, tmp_path / "out")

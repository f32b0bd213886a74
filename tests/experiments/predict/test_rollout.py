"""Rollouts of a run on own series: what prediction writes is what the run evaluated."""

import csv
import json

import numpy as np
import pytest

from configs import custom
from experiments import workdir
from experiments.errors import UserError
from experiments.pdebench.normalizers import as_trained
from experiments.predict.rollout import refuse_other_rollouts, rollout_prediction
from flare_jax.field_codec import FieldCodec
from tests.data_pipeline.custom.test_loader import load
from tests.data_pipeline.custom.test_series import STEPS, step, write_series
from tests.experiments.programs import pdebench
from tests.program_server import run_program


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_series(tmp_path_factory.mktemp("series") / "own", moving=True)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    result = pdebench(
        "--config=configs/custom.py", f"--config.data.path={data}", "--config.data.inputs=rate",
        "--config.data.targets=heat,flow", "--config.data.time=rollout", "--config.data.prescribed=wall",
        "--config.data.n_test=2", "--config.task.noise=0.01", "--config.train.epochs=2", "--config.figures=False",
        "--config.eval.simple_predictors=False",
        "--config.data.integrals=mean:heat; flux:flow",
        "--config.model.channel_dim=8", "--config.model.num_blocks=1", "--config.model.num_heads=2",
        "--config.model.num_latents=4", "--config.model.num_layers_k_proj=0", "--config.model.num_layers_v_proj=0",
        "--config.model.num_layers_ffn=0", "--config.model.num_layers_in_out_proj=0", f"--workdir={folder}",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "repeating the last known frame" in result.stdout
    return folder


@pytest.mark.slow
def test_a_predicted_series_is_the_evaluated_one(data, run, tmp_path):
    pytest.importorskip("pyvista")
    result = run_program(
        "experiments.predict",
        [f"--workdir={run}", f"--input={data}", f"--output={tmp_path / 'out'}", f"--figure={tmp_path / 'a.gif'}"],
    )
    assert result.returncode == 0, result.stderr
    assert "4 series in" in result.stdout
    assert (tmp_path / "a.gif").read_bytes().startswith(b"GIF")
    scales = json.loads((run / "config.json").read_text())["prediction"]["scales"]
    rows = [row for row in csv.DictReader((run / "per_case.csv").open()) if row["split"] == "test"]
    for row in rows:
        files = sorted((tmp_path / "out" / row["name"]).glob("*.npz"))
        made = [np.load(file) for file in files]
        assert len(made) == STEPS
        fields = ("heat", "flow", "displacement")
        error = np.stack([np.column_stack([one[f"{name}_error"] for name in fields]) for one in made]) / scales
        first = made[0]["points"]
        true = np.stack([np.column_stack([one["heat"], one["flow"], one["points"] - first]) for one in made]) / scales
        assert not error[0].any()
        assert not error[:, :2].any()  # the wall is prescribed
        found = np.linalg.norm(error[1:, 2:]) / np.linalg.norm(true[1:, 2:])
        np.testing.assert_allclose(found, float(row["rel_l2_ema"]), rtol=1e-3)
    errors = json.loads((tmp_path / "out" / "errors.json").read_text())
    assert set(errors) == {f"case_{number}" for number in range(4)}
    _check_integrals(run, tmp_path / "out", made, row["name"])
    scores = json.loads((run / "eval.json").read_text())["test/range"]
    judged = json.loads((tmp_path / "out" / "range.json").read_text())
    assert set(scores) == {one["name"] for one in rows}
    for name, score in scores.items():
        np.testing.assert_allclose(score, judged[name]["score"], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_other_series_are_evaluated_in_the_normalisation_of_the_run(run, tmp_path):
    recorded = json.loads((run / "config.json").read_text())["prediction"]
    folder = write_series(tmp_path / "other", 3, moving=True)
    for path in folder.rglob("*.npz"):
        arrays = dict(np.load(path))
        np.savez(path, **{**arrays, "heat": 10 * arrays["heat"], "points": 3 * arrays["points"]})
    options = {"inputs": "rate", "targets": "heat,flow", "time": "rollout", "prescribed": "wall", "n_test": 1}
    other = load(tmp_path, folder, **options)
    kept = FieldCodec.from_json(rollout_prediction(as_trained(other, run)))
    known = FieldCodec.from_json(recorded)
    assert np.abs(rollout_prediction(other)["x_mean"] - known.x_mean).max() > 1
    for name in ("x_mean", "x_std"):
        np.testing.assert_allclose(getattr(kept, name), getattr(known, name), rtol=1e-6)
    for name in ("y_mean", "y_std"):
        np.testing.assert_allclose(getattr(kept, name) * kept.scales, getattr(known, name) * known.scales, rtol=1e-6)


def _check_integrals(run, output, made, case):
    """Those of a case at every step: by their definition on its moving mesh, and as the run evaluated them."""
    tables = [list(csv.DictReader(path.open())) for path in (output / "integrals.csv", run / "integrals_test.csv")]
    found, evaluated = ({(one["integral"], one["time"]): one for one in rows if one["case"] == case} for rows in tables)
    kinds, times = ("mean:heat", "flux:flow"), ("0.5", "1", "1.5")
    assert set(found) == set(evaluated) == {(name, time) for name in kinds for time in times}
    for number, one in enumerate(made[1:], start=1):
        moved = made[0]["points"] + one["displacement_predicted"]
        for kind, places in (("truth", one["points"]), ("prediction", moved)):
            heat, flow = (one[name if kind == "truth" else f"{name}_predicted"] for name in ("heat", "flow"))
            corners = places[one["cells"]]
            edges = corners[:, 1:] - corners[:, :1]
            areas = np.abs(edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0]) / 2
            mean = np.sum(areas * heat[one["cells"]].mean(1)) / areas.sum()
            time = f"{0.5 * number:g}"
            np.testing.assert_allclose(float(found["mean:heat", time][kind]), mean, rtol=1e-5)
            flux = _flux(places, one["cells"], flow)
            np.testing.assert_allclose(float(found["flux:flow", time][kind]), flux, rtol=1e-4, atol=1e-4)
            for name in kinds:
                a, b = (float(some[name, time][kind]) for some in (found, evaluated))
                np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-3)
    summary = json.loads((run / "eval.json").read_text())["test/integrals"]["mean:heat"][""]
    means = [one for one in tables[1] if one["integral"] == "mean:heat"]
    frames = [[float(one["prediction"]) for one in means if one["time"] == time] for time in times]
    assert summary["by_frame"]["time"] == [0.5, 1.0, 1.5]
    np.testing.assert_allclose(summary["by_frame"]["prediction"], np.mean(frames, axis=1), rtol=1e-6)


def _flux(points, cells, flow):
    """Return the flux out of triangles: that of the edges which belong to one of them."""
    edges = [(tuple(cell[[a, b]]), cell[3 - a - b]) for cell in cells for a, b in ((0, 1), (1, 2), (2, 0))]
    total = 0.0
    for (a, b), inner in edges:
        if sum({a, b} == set(other) for other, _ in edges) == 1:
            along = points[b] - points[a]
            normal = np.array([along[1], -along[0]])
            normal *= -np.sign(normal @ (points[inner] - points[a]))
            total += (flow[a] + flow[b]) @ normal / 2
    return total


@pytest.mark.slow
def test_one_mesh_is_rolled_out_as_far_as_in_training(run, tmp_path):
    """From a first step as a mesh file; the collection names every step and its time."""
    pv = pytest.importorskip("pyvista")
    arrays = step(1, 0)
    mesh = pv.PolyData(
        np.pad(arrays["points"], [(0, 0), (0, 1)]), faces=np.insert(arrays["cells"], 0, 3, axis=1).ravel()
    )
    for name in ("heat", "wall"):
        mesh.point_data[name] = arrays[name]
    mesh.point_data["flow"] = np.pad(arrays["flow"], [(0, 0), (0, 1)])
    mesh.field_data["rate"] = [1.0]
    mesh.save(tmp_path / "first.vtp")
    result = run_program(
        "experiments.predict", [f"--workdir={run}", f"--input={tmp_path / 'first.vtp'}", f"--output={tmp_path / 'out'}"]
    )
    assert result.returncode == 0, result.stderr
    reader = pv.PVDReader(tmp_path / "out" / "first.pvd")
    np.testing.assert_allclose(reader.time_values, 0.5 * np.arange(STEPS))
    reader.set_active_time_value(1.5)
    (last,) = reader.read()
    np.testing.assert_array_equal(last["heat_predicted"][:2], mesh["heat"][:2])
    assert (last["heat_predicted"][2:] != mesh["heat"][2:]).any()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("--output=pred.vtu", "has to be a folder for a run on series; leave .vtu out"),
        ("--figure=a.png", "is an animation"),
    ],
)
def test_what_a_rollout_cannot_be_written_to(data, run, tmp_path, change, problem):
    arguments = [f"--workdir={run}", f"--input={data}", f"--output={tmp_path / 'out'}", change]
    result = run_program("experiments.predict", arguments)
    assert result.returncode == 2
    assert problem in result.stderr


def test_rollouts_of_models_with_an_argument_for_the_state_are_refused(tmp_path):
    config = custom.get_config("model=transolver")
    config.data.time = "rollout"
    workdir.write_config_file(tmp_path, config, {"prediction": None})
    with pytest.raises(UserError, match="a rollout of model type 'transolver', which takes the state in an argument"):
        refuse_other_rollouts(tmp_path)
    config.data.time = ""
    workdir.write_config_file(tmp_path, config, {"prediction": None})
    refuse_other_rollouts(tmp_path)

"""`--mode=analyze` of a finished run: its numbers against the definition, its files, its cache, its refusals."""

import json

import jax
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict

from data_pipeline.pde import elasticity
from experiments.errors import UserError
from experiments.pdebench.analyze import check_analyzable, read_cases
from experiments.pdebench.mixer_statistics import mixer_statistics
from flare_jax.analysis import effective_rank, mixing_spectrum
from flare_jax.convert.runs import read_run
from flare_jax.models import build_model
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import apply_fn, split
from tests.experiments.programs import TINY, pdebench, write_elasticity
from tests.numerics import assert_close

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_elasticity(folder)
    return folder


def _train(data_dir, folder, *more):
    result = pdebench(*TINY, *more, f"--data_dir={data_dir}", f"--workdir={folder}")
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="module")
def run(data_dir, tmp_path_factory):
    # Evaluated in pieces, which an analysis has not.
    options = ("--config.model.num_blocks=2", "--config.task.points_per_piece=500")
    return _train(data_dir, tmp_path_factory.mktemp("run"), *options)


@pytest.fixture(scope="module")
def analysed(run):
    result = pdebench("--mode=analyze", f"--workdir={run}", "--eigenvectors=0,1")
    assert result.returncode == 0, result.stderr
    return run / "analysis", result.stdout


@pytest.fixture(scope="module")
def by_definition(run, data_dir):
    """Scores and prediction of the test set, straight from the model."""
    dataset = elasticity.load(data_dir, 16, 16)
    stored = read_run(run)
    options = json.loads((run / "config.json").read_text())["model_options"]
    graphdef, _ = split(nnx.eval_shape(lambda: build_model("flare", 2, 1, options, rngs=ParameterKeys(0))))
    forward = jax.jit(lambda p, x: apply_fn(graphdef)(p, x, return_scores=True))
    prediction, scores = forward(stored.weights["ema"], dataset.tests["test"].x)
    return dataset, np.asarray(prediction), [np.asarray(block) for block in scores]


def test_numbers_are_those_of_the_definition(analysed, by_definition):
    folder, stdout = analysed
    dataset, prediction, scores = by_definition
    content = json.loads((folder / "test.json").read_text())
    arrays = np.load(folder / "test.npz")
    assert (len(content["blocks"]), content["weights"], content["step"]) == (2, "ema", 8)
    for number, block in enumerate(content["blocks"]):
        expected = mixing_spectrum(scores[number], precision="float64").eigenvalues
        assert arrays[f"eigenvalues_{number}"].shape == (16, 2, 4)
        # TF32-free on the CPU, but the program runs at default precision.
        assert_close("eigenvalues", arrays[f"eigenvalues_{number}"], expected, 1e-4)
        assert_close("mean spectrum", block["eigenvalues"], expected.mean(0), 1e-4)
        assert_close("rank", block["effective_rank"], effective_rank(expected).mean(0), 1e-3)
        assert_close("largest score", block["scores"]["maximum"], scores[number].max((2, 3)).mean(0), 1e-4)
    target = (dataset.tests["test"].y - dataset.y_normalizer.mean) / dataset.y_normalizer.std
    assert_close("error", content["mse_normalised"], np.mean(np.square(prediction - target)), 1e-4)
    assert "effective rank per block" in stdout


def test_figures_and_eigenvectors(analysed, by_definition):
    folder, _ = analysed
    assert {"eigenvals.png", "spectra.pdf", "scores.png"} <= {path.name for path in folder.iterdir()}
    assert (folder / "spectra.pdf").read_bytes().startswith(b"%PDF")
    vectors = np.load(folder / "eigenvectors_1.npz")["eigenvectors"]
    scores = by_definition[2][0][1, 0].astype(np.float64)
    gather, scatter = (np.exp(scores - scores.max(axis, keepdims=True)) for axis in (1, 0))
    mixing = (scatter / scatter.sum(0)).T @ (gather / gather.sum(1, keepdims=True))
    assert vectors.shape == (2, 2, 972, 4)
    value = mixing_spectrum(by_definition[2][0][1:2], precision="float64").eigenvalues[0, 0, 0]
    kept = np.load(folder / "scores_1.npz")["scores"]
    assert_close("scores", kept, np.stack([block[1] for block in by_definition[2]]), 1e-4)
    assert (folder / "scores_0.npz").exists()
    assert_close("W x = λ x", mixing @ vectors[0, 0, :, 0], value * vectors[0, 0, :, 0], 1e-3)


def test_a_second_run_only_draws(run, analysed):
    folder, _ = analysed
    arrays = dict(np.load(folder / "test.npz"))
    marked = arrays | {"eigenvalues_0": arrays["eigenvalues_0"] * 0 + 0.25}
    np.savez(folder / "test.npz", **marked)
    (folder / "eigenvals.png").unlink()
    result = pdebench("--mode=analyze", f"--workdir={run}")
    assert result.returncode == 0, result.stderr
    assert (folder / "eigenvals.png").exists()
    assert (np.load(folder / "test.npz")["eigenvalues_0"] == 0.25).all()
    # Other weights are analysed anew.
    assert pdebench("--mode=analyze", f"--workdir={run}", "--step=4").returncode == 0
    assert json.loads((folder / "test.json").read_text())["step"] == 4
    assert (np.load(folder / "test.npz")["eigenvalues_0"] != 0.25).any()


def test_cases_that_are_none():
    with pytest.raises(UserError, match="--eigenvectors=1,last must be numbers of test cases"):
        read_cases(["1", "last"])


def test_cases_that_are_not_there(run):
    result = pdebench("--mode=analyze", f"--workdir={run}", "--eigenvectors=19")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "--eigenvectors=19 is not among the 16 test cases" in result.stderr
    assert "effective rank" not in result.stdout, "nothing is analysed before"


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"type": "transformer"}, "needs attention scores, which model type 'transformer' has not"),
        ({"type": "flare_ablations", "num_latent_blocks": 2}, "model.num_latent_blocks=2; analyse a run with 0"),
    ],
)
def test_models_without_scores_are_refused(section, message):
    with pytest.raises(UserError, match=message):
        check_analyzable(ConfigDict(section))


def test_models_with_scores_are_not_refused():
    check_analyzable(ConfigDict({"type": "flare_ablations", "num_latent_blocks": 0}), (1,))
    check_analyzable(ConfigDict({"type": "flarepp"}))
    with pytest.raises(UserError, match="--eigenvectors=1 needs attention scores, which model type 'flarepp' has not"):
        check_analyzable(ConfigDict({"type": "flarepp"}), (1,))


def test_models_without_scores_are_analysed_on_grids_for_their_energy_alone():
    check_analyzable(ConfigDict({"type": "transformer"}), grid=True)
    with pytest.raises(UserError, match="--eigenvectors=1,2 needs attention scores"):
        check_analyzable(ConfigDict({"type": "transformer"}), (1, 2), grid=True)


def test_statistics_of_mixers_are_means_over_samples():
    options = {"channel_dim": 8, "num_blocks": 1, "num_heads": 2, "num_latents": 4}
    graphdef, params = split(build_model("backbone_flarepp_ablations", 2, 1, options, rngs=ParameterKeys(0)))
    x = np.random.default_rng(0).random((3, 10, 2), np.float32)
    found = mixer_statistics(graphdef, params, {"x": x, "mask": np.ones((3, 10), bool)}, 2)
    _, expected = jax.jit(lambda params, x: apply_fn(graphdef)(params, x, return_statistics=True))(params, x)
    assert found["mean"].keys() == expected["mean"].keys()
    assert found["mean"]["gate_value"] is None, "this mixer has no gate"
    for name in ("rms_q_dynamic", "synth_n_eff", "mixer_over_stream"):
        # Means of quotients are not quotients of means, so that the last is close only.
        np.testing.assert_allclose(found["blocks"][0][name], expected["blocks"][0][name], rtol=1e-2)
    json.dumps(found, allow_nan=False)

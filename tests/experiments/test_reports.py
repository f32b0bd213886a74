import math
from types import SimpleNamespace

import numpy as np
import pytest

from configs import flare_ablations_elas, flare_darcy_small, flare_elas
from experiments import figures, report, seeds
from experiments.errors import NotFiniteError, UserError
from experiments.integral_report import Value, summarize_values
from experiments.options import check_options
from experiments.program import Request
from flare_jax.models.registry import MODELS
from runtime.json_files import read_object


def test_best_median_worst():
    assert figures.chosen_cases(np.array([0.3, 0.1, 0.2, 0.9, 0.5])) == {"best": 1, "median": 0, "worst": 3}


def test_figures_show_the_real_points(tmp_path):
    rng = np.random.default_rng(0)
    positions, truth = rng.random((50, 2)), rng.random(50)
    figure = figures.case_figure("title", positions, truth, truth + 0.1, "stress")
    drawn = figure.axes[0].collections[0]
    np.testing.assert_allclose(drawn.get_offsets(), positions)
    np.testing.assert_allclose(figure.axes[2].collections[0].get_array(), 0.1)
    figures.save(figure, tmp_path / "figures" / "a.png")
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["a.png"]


def test_integrals_that_cancel_have_no_relative_error():
    values = [
        Value(case, "force:p", axis, truth, 2.0)
        for case in "ab"
        for axis, truth in (("x", 1.0), ("y", 1e-14), ("z", 0.0))
    ]
    summary = summarize_values(values)["force:p"]
    assert summary["x"] == {"mean_error": 1.0, "rel_l2": 1.0}
    assert [set(summary[axis]) for axis in "yz"] == [{"mean_error"}] * 2


def test_summary_has_the_chosen_weights_first_and_their_quantiles():
    results = {"test": {"raw": {"rel_l2": np.array([1.0, 3.0])}, "ema": {"rel_l2": np.array([0.0, 1.0])}}}
    summary = report.summarize(results, "ema", {"test/rel_l2_mean_predictor": 9.0})
    assert summary["test/rel_l2"] == summary["test/rel_l2_ema"] == 0.5
    assert summary["test/rel_l2_raw"] == 2.0
    assert summary["test/rel_l2_quantiles"]["1"] == 1.0
    line, warning = report.result_lines(summary, "rel_l2")
    assert "5.0000e-01 (ema weights), raw weights 2.0000e+00, predicting the training mean 9.0000e+00" in line
    assert warning.startswith(
        "warning: test rel_l2 is 0.5 with the averaged weights but 2 with the raw ones; train longer"
    )


@pytest.mark.parametrize(("raw", "ema", "count"), [(1.0, 0.51, 0), (0.51, 1.0, 0), (0.49, 1.0, 1), (0.1, math.nan, 1)])
def test_sets_of_weights_that_differ_by_more_than_half_are_reported(raw, ema, count):
    summary = {"test/rel_l2_raw": raw, "test/rel_l2_ema": ema, "train/rel_l2_raw": 1.0, "train/rel_l2_ema": 9.0}
    assert len(report.weights_warnings(summary, "rel_l2")) == count
    assert report.weights_warnings({"test/rel_l2_raw": raw}, "rel_l2") == []


def test_seeds_are_combined():
    combined = report.combine_seeds({0: {"test/rel_l2": 1.0, "step": 5}, 1: {"test/rel_l2": 3.0, "step": 5}})
    assert combined["seeds"] == [0, 1]
    assert combined["test/rel_l2"]["mean"] == 2.0
    np.testing.assert_allclose(combined["test/rel_l2"]["std"], np.sqrt(2))
    assert "step" not in combined


@pytest.mark.parametrize("module", [flare_elas, flare_ablations_elas, flare_darcy_small])
@pytest.mark.parametrize("variant", [None, "smoke"])
def test_configs_are_valid_and_say_how_to_run_them(module, variant):
    config = module.get_config(variant)
    check_options(config, {})
    options = {name: value for name, value in config.model.items() if name != "type"}
    assert set(options) == set(MODELS[config.model.type].options())  # every option can be set on the command line
    assert "python -m experiments.pdebench --config=configs/" in module.__doc__
    with pytest.raises(ValueError, match="smokey"):
        module.get_config("smokey")


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_headline_that_is_not_finite_is_an_error(value):
    good = {"step": 8, "test/rel_l2": 0.5, "test/mse": value, "train/rel_l2_raw": value}
    seeds.refuse_infinite({0: good}, "rel_l2", "optimizer.learning_rate=0.1")
    with pytest.raises(
        UserError,
        match=rf"test/rel_l2 is {value} with the weights of step 1 of seed 3.*lower optimizer.learning_rate=0.1",
    ):
        seeds.refuse_infinite({0: good, 3: {"step": 1, "test/rel_l2": value}}, "rel_l2", "optimizer.learning_rate=0.1")


def test_seeds_that_reached_the_end_are_reported_and_the_others_named(tmp_path, capsys):
    config = flare_elas.get_config()
    config.train.seeds = (0, 1, 2, 3)
    trained = SimpleNamespace(
        failures={3: NotFiniteError("the loss became NaN")}, members={seed: {"a": seed} for seed in (0, 1, 2)}
    )
    summaries = {
        0: {"step": 5, "test/rel_l2": 1.0},
        1: {"step": 5, "test/rel_l2": 3.0},
        2: {"step": 2, "test/rel_l2": 9.0},
    }

    def ensemble(members):
        assert members == [{"a": 0}, {"a": 1}]
        return {"test/rel_l2": 0.5}, {"spread": {"factor": 2.0}}, ["and so on"]

    show = lambda mean, spread: f"{mean}" if spread is None else f"{mean}±{spread:.2f}"  # noqa: E731
    request = Request(config, tmp_path, {}, mode="eval", step=5)
    with pytest.raises(UserError, match=r"^seed 3: the loss became NaN$"):
        seeds.finish_seeds(request, trained, summaries, "rel_l2", show, ensemble)
    combined = read_object(tmp_path / "eval_step_5.json")
    assert combined["seeds"] == [0, 1]
    assert combined["test/rel_l2"]["values"] == [1.0, 3.0]
    assert (combined["test/rel_l2_ensemble"], combined["spread"]) == (0.5, {"factor": 2.0})
    text = capsys.readouterr().out
    assert "warning: seed 2 ended at step 2 of 5 and is left out of the means" in text
    assert "test/rel_l2 over seeds [0, 1]: 2.0±1.41; of the averaged prediction 0.5" in text
    assert text.endswith("and so on\n")

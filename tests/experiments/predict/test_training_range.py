"""Samples outside of the training's range: told apart from others of its kind, with their reasons and units."""

import json

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from data_pipeline.clouds import pad_clouds
from data_pipeline.custom.example import random_airfoil, random_ellipse, ring_mesh, solve
from data_pipeline.dataset import PDEDataset, Source, Split
from data_pipeline.normalizer import Normalizer
from experiments.predict.training_range import TrainingRange, describe_judgements
from experiments.predict.units import named_unit
from flare_jax.field_codec import FieldCodec


def coded(mean, std):
    return FieldCodec((0, 1), {"angle": 1}, {"pressure": 1}, mean, std, np.zeros(1), np.ones(1), np.ones(1))


def flows(numbers, random_flow=random_ellipse):
    """Return points and angle [N, 3] of the example's flows with these numbers."""
    samples = []
    for number in numbers:
        rng = np.random.default_rng((0, number))
        flow = random_flow(rng)
        ring, _ = ring_mesh(int(rng.integers(32, 65)), int(rng.integers(12, 21)))
        points = solve(flow, ring)["points"]
        samples.append(np.column_stack([points, np.full(len(points), flow.angle)]))
    return samples


@pytest.fixture(scope="module", params=[200, 40])
def judge(request):
    """Return the function that judges samples after a training on so many."""
    train = flows(range(request.param))
    every = np.concatenate(train)
    mean, std = every.mean(0), every.std(0, ddof=1)
    x, mask = pad_clouds([(sample - mean) / std for sample in train])
    split = Split(x, np.zeros((*x.shape[:2], 1)), mask)
    scaling, source = Normalizer(mean, std), Source("own files", "")
    made = PDEDataset("own", split, {}, scaling, Normalizer.identity(1), source, "pressure", space_dim=2)
    content = json.loads(json.dumps(TrainingRange.of(made).to_json()))
    trained_on = TrainingRange.from_json(content)
    return lambda sample: trained_on.judge((sample - mean) / std, coded(mean, std))


def auroc(inside, outside):
    return mannwhitneyu(outside, inside).statistic / (len(inside) * len(outside))


@pytest.mark.parametrize("change", ["stretched", "flattened", "shifted", "turned"])
def test_other_shapes_are_told_from_new_ones_of_the_same_kind(judge, change):
    changes = {
        "stretched": lambda points: points * [1.2, 1.0],
        "flattened": lambda points: points * [1.0, 0.8],
        "shifted": lambda points: points + np.array([0.1, 0.1]),
        "turned": lambda points: points[:, ::-1] * [1.0, -1.0],
    }
    new = flows(range(500, 540))
    inside = [judge(sample).score for sample in new]
    outside = [judge(np.column_stack([changes[change](sample[:, :2]), sample[:, 2]])).score for sample in new]
    assert auroc(inside, outside) > 0.97
    assert np.mean(np.array(inside) > 1.05) < 0.1


def test_steps_of_a_series_are_near_each_other_but_another_mesh_is_not_outside():
    train = [
        np.column_stack([one[:, :2], np.full(len(one), time)])
        for one in flows(range(12))
        for time in np.linspace(0, 1, 20)
    ]
    every = np.concatenate(train)
    mean, std = every.mean(0), every.std(0, ddof=1)
    x, mask = pad_clouds([(sample - mean) / std for sample in train])
    split, source = Split(x, np.zeros((*x.shape[:2], 1)), mask), Source("own files", "")
    made = PDEDataset("own", split, {}, Normalizer(mean, std), Normalizer.identity(1), source, "p", space_dim=2)
    trained_on = TrainingRange.of(made)
    new = [np.column_stack([one[:, :2], np.full(len(one), 0.5)]) for one in flows(range(500, 520))]
    scores = [trained_on.judge((one - mean) / std, coded(mean, std)).score for one in new]
    assert np.mean(np.array(scores) > 1.05) < 0.2


def test_airfoils_are_no_ellipses(judge):
    inside, outside = (
        [judge(one).score for one in flows(range(500, 540), kind)] for kind in (random_ellipse, random_airfoil)
    )
    assert auroc(inside, outside) > 0.97


def test_reasons_name_values_and_units(judge):
    (sample,) = flows([500])
    assert not judge(sample).reasons
    in_mm = judge(sample * [1000, 1000, 1])
    assert [reason.split(" ")[1] for reason in in_mm.reasons] == ["x", "y"]
    assert all(reason.endswith("(as if in mm where the training has m)") for reason in in_mm.reasons)
    (reason,) = judge(np.column_stack([sample[:, :2], np.rad2deg(sample[:, 2])])).reasons
    assert reason.startswith(f"angle {np.rad2deg(sample[0, 2]):.4g} outside of -0.3")
    assert reason.endswith("(as if in degrees where the training has radians)")
    judgements = {"a": judge(sample), "b": in_mm}
    assert describe_judgements(judgements).startswith("warning: 1 of 2 samples are outside of what the model was")
    assert describe_judgements({"a": judge(sample)}) == ""


@pytest.mark.parametrize(
    ("name", "found", "known", "expected"),
    [
        ("alpha", (2.0, 2.0), (-5.0, 8.0), ""),
        ("alpha", (0.05, 0.05), (2.0, 8.0), "radians where the training has degrees"),
        ("angle", (0.2427, 0.2427), (-0.3205, 0.2101), ""),
        ("temperature", (20.0, 25.0), (290.0, 300.0), "°C where the training has K"),
        ("thickness", (2.0, 2.0), (0.001, 0.003), "mm where the training has m"),
        ("thickness", (0.02, 0.02), (0.001, 0.003), ""),
        ("load", (2e6, 3e6), (1e3, 4e3), "a thousandth of the training's unit, such as Pa for kPa"),
        ("load", (7.0, 7.0), (1.0, 3.0), ""),
    ],
)
def test_units_of_inputs(name, found, known, expected):
    outside = found[0] < known[0] or found[1] > known[1]
    said = named_unit(name, found, known) if outside else ""
    assert said == (f" (as if in {expected})" if expected else "")

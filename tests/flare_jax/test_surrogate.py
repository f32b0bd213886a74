"""A trained model as a function: one cloud, many of different sizes, saved and loaded, refusals of one sentence."""

import json
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

import flare_jax
from flare_jax import params as model_params
from flare_jax.convert.descriptions import ModelDescription
from flare_jax.convert.trained import TrainedModel
from flare_jax.surrogate import Surrogate, padded_length
from tests.flare_jax.test_field_codec import CODEC

SIZES = {"channel_dim": 8, "num_blocks": 1, "num_heads": 2, "num_latents": 4}
DEPTHS = {f"num_layers_{part}": 0 for part in ("k_proj", "v_proj", "ffn", "in_out_proj")}


@pytest.fixture(scope="module")
def trained():
    model = ModelDescription("flare", 3, 3, SIZES | DEPTHS)
    _, params = model_params.split(model.build(seed=3))
    return TrainedModel(model, {name: np.asarray(v) for name, v in params.items()}, CODEC.to_json())


@pytest.fixture(scope="module")
def surrogate(trained):
    return Surrogate(trained)


def cloud(count):
    return np.random.default_rng(count).random((count, 3)) * [1, 0, 1]


def test_it_is_the_model_between_encoding_and_decoding(surrogate, trained):
    points = cloud(9)
    fields = surrogate.predict(points, {"angle": 2.0}, pad=False)
    graphdef, _ = model_params.split(trained.model.build())
    x = jnp.asarray(CODEC.encode(points, {"angle": 2.0})[None])
    params = {name: jnp.asarray(value) for name, value in trained.params.items()}
    expected = CODEC.decode(np.asarray(model_params.merge(graphdef, params)(x)[0]))
    for name in ("p", "u"):
        np.testing.assert_allclose(fields[name], expected[name], rtol=1e-5, atol=1e-5)
    assert {name: values.shape for name, values in fields.items()} == {"p": (9, 1), "u": (9, 2)}
    assert (surrogate.inputs, surrogate.targets, surrogate.num_points) == ({"angle": 1}, {"p": 1, "u": 2}, None)
    assert "flare" in repr(surrogate)


def test_clouds_of_different_sizes(surrogate):
    clouds = [cloud(count) for count in (9, 5, 10, 9, 10, 9)]
    angles = [{"angle": float(number)} for number in range(6)]
    together = surrogate.predict(clouds, angles, batch_size=4)
    for points, angle, fields in zip(clouds, angles, together, strict=True):
        alone = surrogate.predict(points, angle)
        for name, values in alone.items():
            np.testing.assert_allclose(fields[name], values, rtol=1e-5, atol=1e-5)
    assert not np.allclose(together[0]["p"], together[3]["p"])
    stacked = surrogate.predict(np.stack(clouds[2:5:2]), angles[2:5:2], batch_size=4)
    np.testing.assert_allclose(stacked[1]["u"], together[4]["u"], rtol=1e-5, atol=1e-5)
    assert surrogate.predict([], []) == []
    # Padded sizes 10 and 5, batches of 4, 1 and 1 clouds, of two padded to 2, share few programs.
    assert surrogate._compiled._cache_size() <= 6


def test_pieces_do_not_show(trained, surrogate, tmp_path):
    clouds, angles = [cloud(9), cloud(21)], [{"angle": 1.0}, {"angle": 2.0}]
    whole = surrogate.predict(clouds, angles)
    asked = []
    for one, size in ((surrogate, 4), (Surrogate(replace(trained, points_per_piece=4)), None)):
        call = one._function
        one.__dict__["_function"] = lambda *inputs, call=call, **given: asked.append(given) or call(*inputs, **given)
        one.__dict__.pop("_compiled", None)
        for fields, expected in zip(one.predict(clouds, angles, points_per_piece=size), whole, strict=True):
            for name, values in expected.items():
                np.testing.assert_allclose(fields[name], values, rtol=1e-5, atol=1e-5)
        one.__dict__["_function"] = call
        one.__dict__.pop("_compiled")
    assert asked == [{"points_per_piece": 4}] * 4
    # A saved model keeps the size, and 0 is all points at once.
    Surrogate(replace(trained, points_per_piece=4)).save(tmp_path / "saved")
    back = flare_jax.load(tmp_path / "saved")
    assert (back._pieces(None), back._pieces(0)) == ({"points_per_piece": 4}, {})


@pytest.mark.parametrize(
    ("model", "options", "edges"),
    [("transformer", {"num_heads": 2}, None), ("mesh_graph_net", {"edge_dim": 2}, np.array([[0, 1], [1, 0]]))],
)
def test_models_without_pieces_predict_at_once(model, options, edges):
    model = ModelDescription(model, 3, 3, {"channel_dim": 8, "num_blocks": 1, **options})
    _, params = model_params.split(model.build(seed=0))
    one = Surrogate(TrainedModel(model, {name: np.asarray(v) for name, v in params.items()}, CODEC.to_json()))
    assert one.predict(cloud(5), {"angle": 1.0}, edges=edges)["p"].shape == (5, 1)
    with pytest.raises(ValueError, match=r"points_per_piece=4, but points in pieces need .*; predict with 0, which is"):
        one.predict(cloud(5), {"angle": 1.0}, edges=edges, points_per_piece=4)


def test_pieces_of_no_size(surrogate):
    with pytest.raises(ValueError, match="points_per_piece is -1 but must be an integer of at least 0"):
        surrogate.predict(cloud(5), {"angle": 1.0}, points_per_piece=-1)


def test_saved_and_loaded(surrogate, tmp_path):
    surrogate.save(tmp_path / "saved")
    back = flare_jax.load(tmp_path / "saved")
    points = cloud(9)
    for name, values in surrogate.predict(points, {"angle": 1.0}).items():
        np.testing.assert_array_equal(back.predict(points, {"angle": 1.0})[name], values)
    with pytest.raises(ValueError, match="exists and is not empty; name a new folder"):
        surrogate.save(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"--step=3 chooses within a run, but .* holds one saved model"):
        flare_jax.load(tmp_path / "saved", step=3)
    with pytest.raises(ValueError, match=r"--weights=ema, but .* holds raw weights"):
        flare_jax.load(tmp_path / "saved", weights="ema")


def test_the_computation_is_that_of_the_training(trained):
    points = cloud(9)
    exact = Surrogate(trained).predict(points, {"angle": 1.0})["p"]
    rounded = Surrogate(replace(trained, dtype="bfloat16")).predict(points, {"angle": 1.0})["p"]
    difference = np.abs(rounded - exact).max() / np.abs(exact).max()
    assert 1e-5 < difference < 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([cloud(5), cloud(4) + 1], [{"angle": 1}, {"angle": 1}]), "coordinate 1|cloud"),
        (([cloud(5), cloud(4)], [{"angle": 1}]), "the inputs are 1 mappings for 2 clouds"),
        (([cloud(5), cloud(4)], {"angle": 1}), "the inputs are one mapping for 2 clouds"),
        (([cloud(5), cloud(4)], [{"angle": 1}, {}]), "cloud 1 lacks the input 'angle'"),
        ((cloud(5), [{"angle": 1}]), "the inputs of the cloud are a list; give a mapping"),
        ((np.ones(3), {"angle": 1}), r"the points have shape \(3,\); give \[N, D\]"),
        (("points", {"angle": 1}), "the points are a str"),
    ],
)
def test_refusals(surrogate, arguments, message):
    if message == "coordinate 1|cloud":
        arguments = ([cloud(5), cloud(4) + [[0, n, 0] for n in range(4)]], arguments[1])
        message = "coordinate 1 of the points of cloud 1 varies"
    with pytest.raises(ValueError, match=message):
        surrogate.predict(*arguments)
    with pytest.raises(ValueError, match="batch_size=0"):
        surrogate.predict(cloud(5), {"angle": 1}, batch_size=0)


def test_folders_without_a_surrogate(tmp_path):
    with pytest.raises(ValueError, match="so there is no run in it, and no saved surrogate"):
        flare_jax.load(tmp_path / "nowhere")
    sections = {"train": {"seeds": [0, 4]}, "model": {"type": "flare"}}
    for content, message in (
        ({"config": {**sections, "model": {"backend": "flare"}}}, "holds a run on token sequences; name a run on"),
        ({"config": {**sections, "model": {"type": "gla"}}}, "holds a run of a language model, which continues text"),
        ({"config": sections}, "does not say what its model takes; predictions work for runs on steady fields"),
        ({"config": {"model": {}}}, "is not the configuration of a run"),
        ({"config": sections, "prediction": {"axes": [0]}}, "what the model in .* takes cannot be read|no checkpoints"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match=message):
            flare_jax.load(tmp_path)
    with pytest.raises(ValueError, match=r"--seed=7 is not among the seeds \(0, 4\)"):
        flare_jax.load(tmp_path, seed=7)


def test_padded_lengths():
    assert [padded_length(count) for count in (1, 7, 8, 9, 17, 33, 1000, 1025)] == [1, 7, 8, 10, 20, 40, 1024, 1280]
    lengths = {padded_length(count) for count in range(1, 5000)}
    assert len(lengths) < 50
    assert all(count <= padded_length(count) <= 1.25 * count + 1 for count in range(1, 5000))

"""Fields in the units of the data, encoded for a model and decoded; what it does not take is refused."""

import json

import numpy as np
import pytest

from data_pipeline.custom.scaling import varying_axes
from data_pipeline.streaming.moments import Moments
from flare_jax.field_codec import FieldCodec, fitting

POINTS = np.random.default_rng(0).random((6, 3)).astype(np.float32)
PLANE = POINTS * np.float32([1, 0, 1])
ANGLE = {"angle": np.ones((6, 1))}
CODEC = FieldCodec(
    (0, 2), {"angle": 1}, {"p": 1, "u": 2},
    *(np.float64(v) for v in ([1, 2, 3], [2, 4, 8], [1, 0, 0], [3, 1, 1], [10, 5, 5])),
)  # fmt: skip


@pytest.mark.parametrize("angle", [np.ones((6, 1)), np.ones(6), [1.0], 1, np.pad(np.ones((6, 1)), [(0, 0), (0, 2)])])
def test_encoding_and_decoding(angle):
    features = CODEC.encode(PLANE, {"angle": angle})
    expected = np.concatenate([(POINTS[:, [0, 2]] - [1, 2]) / [2, 4], np.full((6, 1), -0.25)], axis=-1)
    np.testing.assert_allclose(features, expected, rtol=1e-6)
    assert features.dtype == np.float32
    fields = CODEC.decode(np.ones((6, 3), np.float32))
    np.testing.assert_allclose(fields["p"], np.full((6, 1), 40))
    np.testing.assert_allclose(fields["u"], np.full((6, 2), 5))
    assert (CODEC.c_in, CODEC.c_out) == (3, 3)


def test_a_vector_of_the_sample_is_the_same_at_all_points():
    codec = FieldCodec((0,), {"v": 2}, {"p": 1}, *(np.ones(n) for n in (3, 3, 1, 1, 1)))
    line = PLANE[:, :1]
    encoded = codec.encode(line, {"v": [3.0, 5.0]})
    np.testing.assert_allclose(encoded[:, 1:], np.broadcast_to([2.0, 4.0], (6, 2)))
    np.testing.assert_allclose(codec.encode(line[:2], {"v": [3.0, 5.0]})[:, 1:], [[2, 4], [2, 4]])


def test_far_coordinates_keep_their_digits():
    codec = FieldCodec((0,), {}, {"p": 1}, *(np.float64([v]) for v in (4.6e6, 1, 0, 1, 1)))
    np.testing.assert_allclose(codec.encode(np.array([[4.6e6 + 1e-3]]), {}), [[1e-3]], rtol=1e-5)


def test_it_survives_json():
    content = json.loads(json.dumps({**CODEC.to_json(), "more": 1}))
    assert FieldCodec.from_json(content).to_json() == CODEC.to_json()
    with pytest.raises(ValueError, match=r"x_std has shape \(2,\) for 3 channels"):
        FieldCodec.from_json({**content, "x_std": [1, 2]})


@pytest.mark.parametrize(
    ("points", "inputs", "message"),
    [
        (POINTS, ANGLE, r"coordinate 1 of the points of case.npz varies, but .* coordinates \(0, 2\)"),
        (POINTS[:, :2], ANGLE, "have 2 coordinates, but the model takes number 2"),
        (POINTS[0], ANGLE, r"have shape \(3,\), but must be \[N, D\]"),
        (PLANE, {"angle": np.ones((6, 2))}, r"the input 'angle' of shape \(6, 2\), but the model takes {'angle': 1}"),
        (PLANE, {"angle": np.ones(5)}, r"the input 'angle' of shape \(5,\)"),
        (PLANE, {}, "case.npz lacks the input 'angle', but the model takes {'angle': 1}"),
        (PLANE, {**ANGLE, "mach": 1}, "case.npz has the input 'mach', but the model takes"),
        (PLANE * np.nan, ANGLE, "the points of case.npz hold NaN"),
        (PLANE, {"angle": "steep"}, "the input 'angle' of case.npz hold NaN, infinity or no numbers"),
    ],
)
def test_what_the_model_does_not_take_is_refused(points, inputs, message):
    with pytest.raises(ValueError, match=message):
        CODEC.encode(points, inputs, "case.npz")


@pytest.mark.parametrize("height", [0.0, 1e-8, 1e-5, 1e-3])
@pytest.mark.parametrize("offset", [0.0, 4.6e6])
def test_a_coordinate_is_constant_where_training_finds_it_constant(height, offset):
    points = offset + POINTS.astype(np.float64) * [1, height, 1]
    taken = varying_axes(Moments.of(points), 3)
    try:
        CODEC.encode(points, ANGLE)
    except ValueError:
        assert taken[1]
    else:
        assert not taken[1]


def test_vectors_of_mesh_files_lose_their_empty_channel():
    vector = np.array([[1.0, 2.0, 0.0], [3.0, 0.0, 0.0]])
    np.testing.assert_array_equal(fitting(vector, 2), vector[:, :2])
    assert fitting(vector, 1) is vector
    assert fitting(vector, 3) is vector

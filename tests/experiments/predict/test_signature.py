"""What a model takes and gives, kept in config.json; errors and pictures of predictions."""

import json

import numpy as np
import pytest

from data_pipeline.custom.readers import Reference
from data_pipeline.custom.sample import Sample
from data_pipeline.dataset import PDEDataset, Source, Split
from data_pipeline.normalizer import Normalizer
from experiments.errors import UserError
from experiments.predict.errors import describe_errors, field_errors, mean_errors
from experiments.predict.picture import draw_prediction, surface_triangles
from experiments.predict.signature import Signature, fitting, signature_of

FILE = Reference("case.npz")
POINTS = np.random.default_rng(0).random((6, 3)).astype(np.float32)
SIGNATURE = Signature(
    (0, 2), {"angle": 1}, {"p": 1, "u": 2},
    Normalizer(np.float32([1, 2, 3]), np.float32([2, 4, 8])),
    Normalizer(np.float32([1, 0, 0]), np.float32([3, 1, 1])),
    np.float32([10, 5, 5]), ("points", "angle,other", "p,u"),
)  # fmt: skip


def sample(**changes):
    plane = POINTS * np.float32([1, 0, 1])
    content = {"name": "case", "points": plane, "inputs": {"angle": np.ones((6, 1), np.float32)}, **changes}
    return Sample(**content)


def test_features_and_fields():
    features = SIGNATURE.features(sample(), FILE)
    expected = np.concatenate([(POINTS[:, [0, 2]] - [1, 2]) / [2, 4], np.full((6, 1), -0.25)], axis=-1)
    np.testing.assert_allclose(features, expected, rtol=1e-6)
    fields = SIGNATURE.split(np.ones((6, 3), np.float32))
    np.testing.assert_allclose(fields["p"], np.full((6, 1), 40))
    np.testing.assert_allclose(fields["u"], np.full((6, 2), 5))
    assert (SIGNATURE.c_in, SIGNATURE.c_out) == (3, 3)


def test_it_survives_json():
    back = Signature.from_json(json.loads(json.dumps(SIGNATURE.to_json())))
    assert back.to_json() == SIGNATURE.to_json()
    np.testing.assert_array_equal(back.features(sample(), FILE), SIGNATURE.features(sample(), FILE))
    assert [one.label for one in back.fields().inputs] == ["angle"]
    assert back.fields().inputs_named


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points": POINTS}, r"coordinate 1 of the points of case.npz varies, but .* coordinates \(0, 2\)"),
        ({"points": POINTS[:, :2]}, "have 2 coordinates, but the model takes number 2"),
        ({"inputs": {"angle": np.ones((6, 2))}}, r"has the inputs {'angle': 2}, but the model takes {'angle': 1}"),
    ],
)
def test_other_files_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        SIGNATURE.features(sample(**changes), FILE)


def test_vectors_of_mesh_files_lose_their_empty_channel():
    vector = np.array([[1.0, 2.0, 0.0], [3.0, 0.0, 0.0]])
    np.testing.assert_array_equal(fitting(vector, 2), vector[:, :2])
    assert fitting(vector, 1) is vector
    assert fitting(vector, 3) is vector


def _dataset(**changes):
    split = Split(np.ones((2, 6, 3), np.float32), np.ones((2, 6, 1), np.float32), **changes)
    return PDEDataset(
        "toy", split, {"test": split}, Normalizer.identity(3), Normalizer.identity(1), Source("public files", ""),
        "von Mises stress (Pa)",
    )  # fmt: skip


def test_signature_of_other_data_sets():
    signature = signature_of(_dataset(), {})
    assert (signature.axes, signature.inputs, signature.targets) == ((0, 1), {"inputs": 1}, {"von_Mises_stress_Pa": 1})
    assert [one.label for one in signature.fields().inputs] == ["inputs"]
    assert signature_of(_dataset(fx=np.ones((2, 6, 1), np.float32)), {}) is None
    assert signature_of(_dataset(time=np.ones(2, np.float32)), {}) is None


def test_errors_by_field():
    truth = {"p": np.array([[3.0], [4.0]]), "zero": np.zeros((2, 1))}
    errors = field_errors({"p": np.array([[3.0], [4.5]]), "zero": np.ones((2, 1))}, truth)
    assert errors["p"] == pytest.approx({"rel_l2": 0.1, "rmse": np.sqrt(0.125), "max": 0.5})
    assert errors["zero"]["rel_l2"] == float("inf")
    mean = mean_errors({"a": {"p": errors["p"]}, "b": {"p": {"rel_l2": 0.3, "rmse": 0.0, "max": 2.0}}})
    assert mean["p"]["rel_l2"] == pytest.approx(0.2)
    assert mean["p"]["max"] == 2.0
    assert describe_errors(mean)[0].startswith("p: relative L2 error 2.0000e-01, RMS error ")


TRIANGLES = np.array([[0, 1, 2], [2, 3, 4]])
MESH = (("triangle", TRIANGLES), ("vertex", np.arange(6)[:, None]))


@pytest.mark.parametrize(
    ("axes", "cells"), [((0,), ()), ((0, 2), ()), ((0, 2), MESH), ((0, 1, 2), ()), ((0, 1, 2), MESH)]
)
@pytest.mark.parametrize("known", [True, False])
def test_pictures(tmp_path, axes, cells, known):
    prediction = {"p": POINTS[:, :1], "u": POINTS[:, :2]}
    targets = {name: values + 0.1 for name, values in prediction.items()} if known else {}
    figure = draw_prediction(Sample("case", POINTS, {}, targets, cells), axes, prediction)
    panels = [one for one in figure.axes if one.get_label() != "<colorbar>"]
    assert len(panels) == (6 if known else 2)
    titles = [one.get_title() for one in panels]
    assert titles[0] == ("p, truth" if known else "p")
    assert titles[-1] == ("u, error" if known else "|u|")
    figure.savefig(tmp_path / "a.png")


def test_triangles_of_a_surface():
    quads = ("quad", np.array([[0, 1, 2, 3]]))
    found = surface_triangles(Sample("a", POINTS, cells=(quads, *MESH)))
    np.testing.assert_array_equal(found, [[0, 1, 2], [0, 2, 3], *TRIANGLES])
    assert surface_triangles(Sample("a", POINTS, cells=(*MESH, ("tetra", np.array([[0, 1, 2, 3]]))))) is None
    assert surface_triangles(Sample("a", POINTS)) is None

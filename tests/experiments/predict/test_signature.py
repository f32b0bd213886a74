"""What a model takes and gives, kept in config.json; errors and pictures of predictions."""

import json

import numpy as np
import pytest

from data_pipeline import vtk
from data_pipeline.custom.sample import Contents, Field, Fields, Sample, parse_fields
from data_pipeline.dataset import Channels, PDEDataset, Source, Split
from data_pipeline.normalizer import Normalizer
from experiments.predict.errors import describe_errors, field_errors, mean_errors
from experiments.predict.picture import draw_prediction, triangles_of
from experiments.predict.signature import Signature, signature_of
from tests.data_pipeline.custom.test_loader import load as load_own

POINTS = np.random.default_rng(0).random((6, 3)).astype(np.float32)
READS = (Fields("points", (Field("angle"), Field("other")), (Field("p"), Field("u")), True),)
SIGNATURE = Signature(
    Channels((0, 2), {"angle": 1}, {"p": 1, "u": 2}, np.float32([10, 5, 5]), READS),
    Normalizer(np.float32([1, 2, 3]), np.float32([2, 4, 8])),
    Normalizer(np.float32([1, 0, 0]), np.float32([3, 1, 1])),
)


def test_it_survives_json():
    back = Signature.from_json(json.loads(json.dumps(SIGNATURE.to_json())))
    assert back.to_json() == SIGNATURE.to_json()
    assert back.channels.reads == READS
    assert [one.label for one in back.fields(["points", "p"]).inputs] == ["angle"]
    assert back.fields([]).inputs_named


def test_runs_of_before_are_understood():
    content = {**SIGNATURE.to_json(), "sources": ["points", "angle,other", "p,u"]}
    del content["reads"]
    assert Signature.from_json(content).channels.reads == (parse_fields("points", "angle,other", "p,u"),)


def test_the_layout_of_a_file_is_found():
    ours = Fields("points", (), (Field("z"),), True)
    published = Fields("pos", (), (Field("disp", 2, 2, "z"),), True, "elems")
    channels = Channels((0, 1, 2), {}, {"z": 1}, np.ones(1, np.float32), (published, ours))
    signature = Signature(channels, Normalizer.identity(3), Normalizer.identity(1))
    assert signature.fields(["pos", "temp", "disp"]) == published
    assert signature.fields(["pos"]) == published
    assert signature.fields(["points", "z"]) == ours
    assert [one.label for one in published.targets] == ["z"]


def _dataset(**changes):
    split = Split(np.ones((2, 6, 3), np.float32), np.ones((2, 6, 1), np.float32), **changes)
    return PDEDataset(
        "toy", split, {"test": split}, Normalizer.identity(3), Normalizer.identity(1), Source("public files", ""),
        "von Mises stress (Pa)",
    )  # fmt: skip


def test_signature_of_other_data_sets():
    signature = signature_of(_dataset())
    channels = signature.channels
    assert (channels.axes, channels.inputs, channels.targets) == ((0, 1), {"inputs": 1}, {"von_Mises_stress_Pa": 1})
    assert [one.label for one in signature.fields(["points"]).inputs] == ["inputs"]
    assert signature_of(_dataset(fx=np.ones((2, 6, 1), np.float32))) is None
    assert signature_of(_dataset(time=np.ones(2, np.float32))) is None


def test_errors_by_field():
    truth = {"p": np.array([[3.0], [4.0]]), "zero": np.zeros((2, 1))}
    errors = field_errors({"p": np.array([[3.0], [4.5]]), "zero": np.ones((2, 1))}, truth)
    assert errors["p"] == pytest.approx({"rel_l2": 0.1, "rmse": np.sqrt(0.125), "max": 0.5})
    assert errors["zero"] == {"rel_l2": None, "rmse": 1.0, "max": 1.0}
    mean = mean_errors({"a": errors, "b": {"p": {"rel_l2": 0.3, "rmse": 0.0, "max": 2.0}}})
    assert mean["p"]["rel_l2"] == pytest.approx(0.2)
    assert mean["p"]["max"] == 2.0
    assert describe_errors(mean)[0].startswith("p: relative L2 error 2.0000e-01, RMS error ")
    assert describe_errors(mean)[1].startswith("zero: relative L2 error undefined, the truth is zero, RMS error 1.0")


def test_errors_by_spread():
    """An error of 24.5 of a pressure of 101325 ± 50 is 0.49 of its fluctuation and 2.4e-4 of itself."""
    rng = np.random.default_rng(0)
    truth = {"p": 101325 + 50 * rng.normal(size=(2000, 1)), "u": rng.normal(size=(2000, 2))}
    wrong = {"p": truth["p"] + 24.5, "u": truth["u"] + [3.0, 4.0]}
    errors = field_errors(wrong, truth, {"p": 50.0, "u": 10.0})
    assert errors["p"]["rel_spread"] == pytest.approx(0.49)
    assert errors["p"]["rel_l2"] == pytest.approx(24.5 / 101325, rel=1e-4)
    assert errors["u"]["rel_spread"] == pytest.approx(0.5)
    mean = mean_errors({"a": errors, "b": errors})
    assert describe_errors(mean)[0].startswith(
        "p: error in units of the spread 4.9000e-01, relative L2 error 2.4180e-04"
    )


def test_outputs_on_an_offset_keep_their_digits(tmp_path):
    """A network in float32 gives the deviation from the mean; the sum of both is taken in float64."""
    rng = np.random.default_rng(0)
    for number in range(3):
        (tmp_path / ("test" if number == 2 else "train")).mkdir(exist_ok=True)
        arrays = {"points": rng.random((60, 2)), "p": 101325 + 50 * rng.normal(size=60), "u": rng.normal(size=(60, 2))}
        np.savez(tmp_path / ("test" if number == 2 else "train") / f"{number}.npz", **arrays)
    dataset = load_own(tmp_path, tmp_path, inputs="", targets="p,u")
    signature = Signature.from_json(json.loads(json.dumps(signature_of(dataset).to_json())))
    encoded = dataset.y_normalizer.encode(dataset.train.y[1])
    truth = np.load(tmp_path / "train" / "1.npz")
    fields = signature.codec.decode(encoded)
    np.testing.assert_allclose(fields["p"][:, 0], truth["p"], rtol=0, atol=50 * 3e-7)
    np.testing.assert_allclose(fields["u"], truth["u"], rtol=0, atol=1e-6)
    pressures = np.concatenate([np.load(tmp_path / "train" / f"{number}.npz")["p"] for number in (0, 1)])
    assert signature.spreads["p"] == pytest.approx(pressures.std(ddof=1), rel=1e-9)
    assert list(signature.spreads) == ["p", "u"]


@pytest.mark.parametrize("unit", [1e-30, 1.0, 1e30])
def test_errors_in_any_unit(unit):
    truth = np.float32([[3.0], [4.0]]) * np.float32(unit)
    errors = field_errors({"p": truth * np.float32(1.5)}, {"p": truth})["p"]
    assert errors["rel_l2"] == pytest.approx(0.5, rel=1e-6)
    assert errors["rmse"] == pytest.approx(1.25 * np.sqrt(2) * unit, rel=1e-6)
    assert field_errors({"p": truth}, {"p": truth})["p"] == {"rel_l2": 0.0, "rmse": 0.0, "max": 0.0}


def test_points_without_a_truth_do_not_count():
    truth = {"p": np.array([[3.0], [np.nan], [4.0]]), "nowhere": np.full((3, 1), np.nan)}
    errors = field_errors({"p": np.array([[3.0], [9.0], [4.5]]), "nowhere": np.ones((3, 1))}, truth)
    assert errors == {"p": pytest.approx({"rel_l2": 0.1, "rmse": np.sqrt(0.125), "max": 0.5, "unknown": 1})}
    assert describe_errors(mean_errors({"a": errors}))[0].endswith("no number at 1 points, which do not count")


TRIANGLES = np.array([[0, 1, 2], [2, 3, 4]])
MESH = (("triangle", TRIANGLES), ("vertex", np.arange(6)[:, None]))


@pytest.mark.parametrize(
    ("axes", "triangles"),
    [((0,), None), ((0, 2), None), ((0, 2), TRIANGLES), ((0, 1, 2), None), ((0, 1, 2), TRIANGLES)],
)
@pytest.mark.parametrize("known", [True, False])
def test_pictures(tmp_path, axes, triangles, known):
    prediction = {"p": POINTS[:, :1], "u": POINTS[:, :2]}
    truth = {name: values + 0.1 for name, values in prediction.items()} if known else {}
    if known:
        truth["p"][2] = np.nan
    figure = draw_prediction("case", POINTS[:, axes], triangles, prediction, truth)
    panels = [one for one in figure.axes if one.get_label() != "<colorbar>"]
    assert len(panels) == (6 if known else 2)
    titles = [one.get_title() for one in panels]
    assert titles[0] == ("p, truth" if known else "p")
    assert titles[-1] == ("u, error" if known else "|u|")
    figure.savefig(tmp_path / "a.png")


@pytest.mark.parametrize("depth", [1, 3])
def test_pictures_of_fields_at_cells(tmp_path, depth):
    """A cell has its own colour; of a volume those at the surface are seen, and lower cells are not."""
    pv = pytest.importorskip("pyvista")
    volume = pv.ImageData(dimensions=(3, 4, depth)).cast_to_unstructured_grid()
    mesh = pv.merge([volume, pv.PolyData([[0.0, 0, 0], [1, 0, 0]], lines=[2, 0, 1]).cast_to_unstructured_grid()])
    count = int(vtk.main_cells(mesh).sum())
    points, triangles, cells = vtk.surface_of_cells(mesh)
    assert count == 6 * max(depth - 1, 1)
    assert sorted(set(cells)) == list(range(count))
    assert _area(points, triangles) == pytest.approx(6 if depth == 1 else 2 * (6 + 2 * 2 + 3 * 2))
    values = {"T": np.arange(float(count))[:, None]}
    figure = draw_prediction("case", points[:, : 2 if depth == 1 else 3], triangles, values, {}, cells)
    (drawn,) = figure.axes[0].collections
    np.testing.assert_array_equal(drawn.get_array(), cells)
    figure.savefig(tmp_path / "a.png")


def _triangles(points, *cells):
    return triangles_of(Contents({"points": points}, ["points"]), Sample("a", points, cells=cells), "points")


def test_triangles_of_a_surface():
    quads = ("quad", np.array([[0, 1, 2, 3]]))
    np.testing.assert_array_equal(_triangles(POINTS, quads, *MESH), [[0, 1, 2], [0, 2, 3], *TRIANGLES])
    assert _triangles(POINTS) is None
    assert _triangles(POINTS, MESH[1]) is None


def test_triangles_of_volumes_and_quadratic_cells():
    pytest.importorskip("pyvista")
    corners = np.stack(np.meshgrid(*[range(3)] * 3, indexing="ij"), axis=-1).reshape(-1, 3).astype(float)
    cubes = [[9 * x + 3 * y + z for x, y, z in _CORNERS + np.array([i, j, k])] for i, j, k in np.ndindex(2, 2, 2)]
    found = _triangles(corners, ("hexahedron", np.array(cubes)))
    assert found.shape == (6 * 4 * 2, 3)
    assert set(np.unique(found)) == set(range(27)) - {13}  # the point in the middle cannot be seen
    assert _area(corners, found) == pytest.approx(24)
    np.testing.assert_array_equal(np.unique(_triangles(corners, ("tetra", np.array([[0, 1, 3, 9]])))), [0, 1, 3, 9])
    voxel = np.array([[0, 9, 3, 12, 1, 10, 4, 13]])
    assert _area(corners, _triangles(corners, ("voxel", voxel))) == pytest.approx(6)
    quadratic = _triangles(corners, ("triangle6", np.array([[0, 2, 6, 1, 4, 3]])))
    assert _area(corners, quadratic) == pytest.approx(2)
    assert set(np.unique(quadratic)) == {0, 1, 2, 3, 4, 6}


_CORNERS = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]])


def _area(points, triangles):
    a, b, c = np.moveaxis(points[triangles], 1, 0)
    return np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2

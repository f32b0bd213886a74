import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.scaling import POINTS, Table, curves, main, parse, ratios
from benchmarks.scaling_figure import Point, scaling_figure, series_label
from benchmarks.scaling_jax import handle, make_layer
from benchmarks.worker import NOT_REACHED

MEASURED = [
    Point("jax", "flare", 128, 2**19, "bfloat16", 0.02, 4000.0),
    Point("jax", "flare", 128, 2**20, "bfloat16", 0.04, 8000.0),
    Point("jax", "flare", 512, 2**20, "bfloat16", None, 90_000.0, "out of memory"),
    Point("jax", "softmax", 0, 2**19, "bfloat16", 2.5, 2500.0),
    Point("jax", "softmax", 0, 2**20, "bfloat16", 10.0, 5000.0),
    Point("torch", "flare", 128, 2**20, "bfloat16", 0.08, 9000.0),
]


def test_the_ratio_is_taken_at_the_most_points_that_both_reach():
    assert ratios(MEASURED) == [("FLARE, 128 latents", "1048576", "10000.0", "40.00", "250.0x")]
    assert ratios(MEASURED[:-2]) == [("FLARE, 128 latents", "524288", "2500.0", "20.00", "125.0x")]


def test_the_file_holds_all_that_was_measured(tmp_path):
    table = Table(tmp_path / "scaling.csv")
    for point in MEASURED:
        table.add(point, "some GPU")
    again = Table.read(table.path)
    assert again.points == MEASURED
    assert again.device == "some GPU"


def test_the_figure_leaves_out_what_was_not_measured():
    figure = scaling_figure(MEASURED, "some GPU")
    time_panel, memory_panel = figure.axes
    curves = {line.get_label(): line for line in time_panel.lines}
    assert set(curves) == {"FLARE, 128 latents", "softmax attention", "FLARE, 128 latents (PyTorch)"}
    np.testing.assert_allclose(curves["FLARE, 128 latents"].get_ydata(), [20.0, 40.0])
    np.testing.assert_allclose(memory_panel.lines[0].get_ydata(), [4000 / 1024, 8000 / 1024])


def test_names_of_curves():
    assert series_label(("jax", "physics", 512)) == "physics attention, 512 slices"
    assert series_label(("torch", "softmax", 0)) == "softmax attention (PyTorch)"


@pytest.mark.parametrize("mixer", ["physics", "flare"])
def test_every_layer_is_timed(mixer):
    request = {"mixer": mixer, "size": 8, "dtype": "float32", "budget": 1e-4, "longest": 1e9, "names": ["32"]}
    (answer,) = handle(request)
    assert answer["name"] == "32"
    assert answer["seconds"] > 0
    assert answer["mebibytes"] > 0


def test_slow_calls_are_left_out():
    request = {"mixer": "softmax", "size": 0, "dtype": "float32", "budget": 1e-4, "longest": 1e-9}
    first, second = handle({**request, "names": ["16", "32"]})
    assert first["seconds"] > 0
    assert second["error"].startswith("left out: would take about")


def test_softmax_attention_is_that_of_the_definition():
    layer = make_layer("softmax", 0, "float32")
    x = jax.random.normal(jax.random.key(0), (1, 10, 128))
    q, k, v = np.moveaxis(np.asarray(layer.qkv_proj(x)).reshape(10, 3, 8, 16), 1, 0)
    weights = np.exp(np.einsum("nhd,mhd->hnm", q, k) / 4)
    mixed = np.einsum("hnm,mhd->nhd", weights / weights.sum(-1, keepdims=True), v).reshape(1, 10, 128)
    np.testing.assert_allclose(layer(x), layer.out_proj(jnp.asarray(mixed)), atol=1e-6)


def test_the_program_runs_from_end_to_end_and_draws_again(tmp_path, capsys):
    options = ["--mixers=softmax", "--frameworks=jax,torch", "--dtype=float32", f"--out={tmp_path}"]
    assert main(["--quick", "--points=16", *options]) == 0
    figure = tmp_path / "scaling.png"
    assert figure.stat().st_size > 10_000
    assert "softmax attention, 16 points:" in capsys.readouterr().out
    figure.unlink()
    assert main(["--plot-only", f"--out={tmp_path}"]) == 0
    assert figure.is_file()


def test_a_second_call_measures_what_is_missing(tmp_path, capsys):
    kept = Point("jax", "softmax", 0, 16, "float32", 0.5, 3.0)
    table = Table(tmp_path / "scaling.csv")
    table.add(kept, "a device")
    table.add(Point("jax", "softmax", 0, 32, "float32", None, None, NOT_REACHED), "")
    capsys.readouterr()
    options = ["--quick", "--mixers=softmax", "--frameworks=jax", "--points=16,32", f"--out={tmp_path}", "--resume"]
    assert main([*options, "--dtype=float32"]) == 0
    assert "16 points" not in capsys.readouterr().out
    first, second = Table.read(table.path).points
    assert first == kept
    assert second.points == 32
    assert second.seconds > 0
    assert main([*options, "--dtype=bfloat16"]) == 2
    assert "holds numbers of dtype float32, not bfloat16" in capsys.readouterr().err


def test_a_missing_file_is_one_sentence(tmp_path, capsys):
    assert main(["--plot-only", f"--out={tmp_path}"]) == 2
    assert "run python -m benchmarks.scaling without --plot-only first" in capsys.readouterr().err


def test_a_foreign_file_is_one_sentence(tmp_path, capsys):
    (tmp_path / "scaling.csv").write_text("a,b\n1,2\n")
    assert main(["--plot-only", f"--out={tmp_path}"]) == 2
    assert "give a file that this program wrote" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--points=1e6", "points has '1e6'; give positive integers"),
        ("--sizes=0", "sizes has '0'; give positive integers"),
        ("--mixers=mamba", "mixers has 'mamba'; give one or more of flare, softmax, physics"),
    ],
)
def test_bad_options_are_one_sentence(argument, message, capsys):
    with pytest.raises(SystemExit):
        parse([argument])
    assert message in capsys.readouterr().err


def test_the_default_is_the_figure_of_the_original():
    options = parse([])
    assert options.points == POINTS
    assert (POINTS[0], POINTS[-1]) == (1024, 1_048_576)
    assert curves("torch", options) == [("flare", 128), ("flare", 512), ("flare", 2048), ("softmax", 0)]
    assert ("physics", 2048) in curves("jax", options)

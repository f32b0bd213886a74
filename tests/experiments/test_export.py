"""Exported files give what the model gives, for any number of points; a file that does not is not left."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

import flare_jax
from benchmarks import exported
from data_pipeline.custom.sample import parse_fields
from experiments.errors import UserError
from experiments.export import formats, main
from experiments.export.function import ExportedFunction
from experiments.predict.signature import fields_to_json
from flare_jax import params as model_params
from flare_jax.convert.descriptions import ModelDescription
from flare_jax.convert.trained import TrainedModel, read_trained, write_trained
from flare_jax.field_codec import FieldCodec
from flare_jax.mixers.attention import self_attention
from kernels import array_code, flare_mixer
from tests.flare_jax.test_surrogate import DEPTHS, SIZES
from tests.program_server import run_program

ROOT = Path(__file__).parents[2]
# Coordinates far from their origin, two of three; a pressure on an offset.
CODEC = FieldCodec(
    (0, 2), {"angle": 1}, {"p": 1, "u": 2},
    *(np.float64(v) for v in ([4.6e6 + 0.3, 2, 3], [50, 4, 8], [2, 0, 0], [3, 1, 1], [10, 5, 5])),
)  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    model = ModelDescription("flare", 3, 3, SIZES | DEPTHS)
    _, params = model_params.split(model.build(seed=3))
    folder = tmp_path_factory.mktemp("export") / "saved"
    write_trained(folder, TrainedModel(model, {n: np.asarray(v) for n, v in params.items()}, CODEC.to_json()))
    return folder


@pytest.fixture(scope="module")
def cloud():
    rng = np.random.default_rng(5)
    points = np.stack([4.6e6 + 50 * rng.random(31), np.zeros(31), rng.random(31)], axis=-1)
    return points.astype(np.float32), np.full((31, 1), 0.5, np.float32)


def test_an_artefact_of_jax(saved, cloud, tmp_path):
    result = run_program("experiments.export", (f"--workdir={saved}", f"--out={tmp_path / 'new' / 'model.jax'}"))
    assert result.returncode == 0, result.stderr
    assert "for any number of points; largest error against the model" in result.stdout
    assert "takes points [N, 3], angle [N, 1]; gives p [N, 1], u [N, 2]" in result.stdout
    points, angle = cloud
    artefact = jax.export.deserialize(bytearray((tmp_path / "new" / "model.jax").read_bytes()))
    assert set(artefact.platforms) == {"cpu", "cuda"}
    fields = artefact.call(points, {"angle": angle})
    for name, values in flare_jax.load(saved).predict(points, {"angle": angle}).items():
        np.testing.assert_allclose(fields[name], values, rtol=0, atol=1e-5 * np.abs(values).max())
    compared = run_program("benchmarks.exported", (f"--workdir={saved}", f"--model={tmp_path / 'new' / 'model.jax'}"))
    assert compared.returncode == 0, compared.stderr
    assert re.fullmatch(r"model.jax with jax alone on cpu: largest error \S+, at most 1e-05\n", compared.stdout)


def test_a_file_with_other_fields_is_told(saved, cloud, tmp_path, monkeypatch, capsys):
    """In place of the example a program that gives zeros; points and inputs are those of a file."""
    example, model, given = tmp_path / "zeros.py", tmp_path / "model.jax", tmp_path / "cloud.npz"
    example.write_text(
        "import sys, numpy as np\ncount = len(np.load(sys.argv[2])['points'])\n"
        "np.savez(sys.argv[3], p=np.zeros((count, 1)), u=np.zeros((count, 2)))"
    )
    model.write_bytes(b"")
    trained = read_trained(saved)
    reads = [fields_to_json(parse_fields("xyz", "angle", "p"))]
    trained = replace(trained, prediction={**trained.prediction, "reads": reads})
    np.savez(given, xyz=cloud[0], angle=cloud[1], p=np.zeros(31))
    monkeypatch.setattr(exported, "EXAMPLE", example)
    monkeypatch.setattr(exported, "read_trained", lambda folder: trained)
    assert exported.main([f"--workdir={saved}", f"--model={model}", f"--input={given}"]) == 1
    assert capsys.readouterr().out == "model.jax with jax alone on cpu: largest error 1.00e+00, MORE THAN 1e-05\n"
    with pytest.raises(UserError, match=r"--model=none.jax does not exist; write it by experiments.export"):
        exported.main([f"--workdir={saved}", "--model=none.jax"])


@pytest.fixture(scope="module")
def onnx_model(saved, tmp_path_factory):
    """The run as an ONNX file."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("jax2onnx")
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    result = run_program("experiments.export", (f"--workdir={saved}", f"--out={path}"))
    assert result.returncode == 0, result.stderr
    return path


@pytest.mark.slow
def test_an_onnx_model_and_the_example(saved, cloud, onnx_model, tmp_path):
    points, angle = cloud
    fields = _fields(onnx_model, points, angle)
    for name, values in flare_jax.load(saved).predict(points, {"angle": angle}).items():
        np.testing.assert_allclose(fields[name], values, rtol=0, atol=1e-5 * np.abs(values).max())
    example = [sys.executable, ROOT / "docs/examples/predict_onnx.py", onnx_model]
    result = subprocess.run(example, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "p (1000, 1) mean" in result.stdout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
def test_the_example_in_cpp_predicts_the_same(onnx_model, tmp_path):
    """With the headers of the system, or those of the release that ONNXRUNTIME names, and the library of the wheel."""
    places = [Path(os.environ["ONNXRUNTIME"]) / "include"] if "ONNXRUNTIME" in os.environ else [Path("/usr/include")]
    headers = next((path.parent for place in places for path in place.rglob("onnxruntime_cxx_api.h")), None)
    if headers is None:
        pytest.skip("no headers of ONNX Runtime")
    library = next((Path(importlib.util.find_spec("onnxruntime").origin).parent / "capi").glob("libonnxruntime.so.*"))
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):  # as releases name it, for linking and for running
        (tmp_path / name).symlink_to(library)
    source, program = ROOT / "docs/examples/predict_onnx.cpp", tmp_path / "predict_onnx"
    command = ["c++", "-std=c++17", "-Wall", "-Werror", source, f"-I{headers}", f"-L{tmp_path}", "-lonnxruntime"]
    subprocess.run([*command, "-o", program], check=True)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    result = subprocess.run([program, onnx_model], capture_output=True, text=True, check=True, env=environment)
    number, axis = np.arange(1000, dtype=np.float32)[:, None], np.arange(3, dtype=np.float32)
    spiral = number / np.float32(1000) * np.cos(np.float32(0.1) * number - np.float32(1.5708) * axis)
    fields = _fields(onnx_model, spiral, np.full((1000, 1), 0.1, np.float32))
    lines = (line.split("mean") for line in result.stdout.splitlines())
    printed = {name.split()[0]: [float(word) for word in means.split()] for name, means in lines}
    assert set(printed) == set(fields)
    for name, values in fields.items():
        np.testing.assert_allclose(printed[name], values.mean(axis=0, dtype=float), rtol=1e-4, atol=1e-5)
    refused = subprocess.run([program, tmp_path / "none.onnx"], capture_output=True, text=True, env=environment)
    assert (refused.returncode, refused.stderr.startswith("error: ")) == (1, True)


def _fields(model, points, angle):
    """Return what the Python runtime predicts, by name."""
    session = importlib.import_module("onnxruntime").InferenceSession(model)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"points": points, "angle": angle}), strict=True))


def test_a_file_that_differs_is_not_left(saved, tmp_path, monkeypatch):
    def wrong(function, path, points):
        path.write_bytes(b"model")
        return lambda arrays: [1.001 * field for field in function.expected(arrays)]

    def impossible(function, path, points):
        raise NotImplementedError("no rule\nfor this")

    function = ExportedFunction.of(read_trained(saved))
    assert main.largest_error(function, function.expected, (7,)) == 0
    assert main.largest_error(function, wrong(function, tmp_path / "a", 0), (7,)) == pytest.approx(1e-3)
    monkeypatch.setitem(formats.WRITERS, ".jax", wrong)
    flags = {
        "workdir": str(saved),
        "out": str(tmp_path / "new.jax"),
        "points": 0,
        "step": None,
        "seed": None,
        "weights": None,
    }
    monkeypatch.setattr(main, "FLAGS", type("Flags", (), flags))
    with pytest.raises(UserError, match=r"differs from the model by 1.0e-03, more than 1e-05, so it is not left"):
        main.main()
    monkeypatch.setitem(formats.WRITERS, ".jax", impossible)
    with pytest.raises(
        UserError, match=r"model type flare cannot be written as .jax \(no rule for this\); give --points"
    ):
        main.main()
    assert not [path for path in tmp_path.iterdir() if path.name != "a"]


def test_refusals(saved, tmp_path):
    for arguments, words in (
        ((f"--workdir={saved}", "--out=model.pt"), "--out=model.pt must end in one of .jax, .onnx"),
        ((f"--workdir={saved}",), "--out is missing"),
        ((f"--workdir={tmp_path}", "--out=model.jax"), "so there is no run in it"),
        ((f"--workdir={saved}", "--out=model.jax", "--points=-1"), "--points=-1 must be a number of points"),
    ):
        result = run_program("experiments.export", arguments)
        assert result.returncode == 2
        assert words in result.stderr
        assert "Traceback" not in result.stderr


def test_attention_among_any_number_of_points():
    (points,) = jax.export.symbolic_shape("n")
    q = jax.ShapeDtypeStruct((1, points, 2, 4), np.float32)
    with array_code():
        assert jax.eval_shape(lambda q: self_attention(q, q, q, scale=0.5), q).shape == q.shape


def test_array_code_has_no_kernels():
    q, k = np.ones((2, 4, 8), np.float32), np.ones((1, 6, 2, 8), np.float32)

    mix = jax.jit(lambda q, k: flare_mixer(q, k, k, implementation="xla"))  # keeps what it has traced

    def traced():
        return str(mix.trace(q, k).jaxpr)

    assert "on_target" in traced()
    with array_code():
        assert "on_target" not in traced()
    assert "on_target" in traced()

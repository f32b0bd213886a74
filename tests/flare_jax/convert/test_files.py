"""Files of parameters: safetensors, npz, PyTorch checkpoints, and the folder of a converted model."""

import importlib.util
import io
import json
import pickle
import sys
import types
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest

from flare_jax.convert.descriptions import ModelDescription
from flare_jax.convert.folder import ConvertedModel, read_converted, write_converted
from flare_jax.convert.safetensors import read_safetensors, write_safetensors
from flare_jax.convert.torch_files import read_snapshot, write_state_dict

ARRAYS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "scalar": np.float64(2.5) * np.ones(()),
    "half": np.array([1.5, -2.0], jnp.bfloat16),
    "index": np.array([[3], [-1]], np.int64),
    "flag": np.array([True, False]),
    "empty": np.zeros((0, 4), np.float16),
}


def same(found, expected):
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)


def test_safetensors_round_trip(tmp_path):
    write_safetensors(tmp_path / "a.safetensors", ARRAYS)
    same(read_safetensors(tmp_path / "a.safetensors"), ARRAYS)


def test_safetensors_bytes_are_those_of_the_format(tmp_path):
    """A file written by hand from the description of the format, with its optional metadata."""
    header = {"__metadata__": {"format": "pt"}, "x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    text = json.dumps(header).encode()
    path = tmp_path / "hand.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + np.array([1, 2], "<f4").tobytes())
    same(read_safetensors(path), {"x": np.array([1, 2], np.float32)})


@pytest.mark.parametrize("length", [0, 5, 30, -1])
def test_safetensors_that_are_cut_off(tmp_path, length):
    path = tmp_path / "a.safetensors"
    write_safetensors(path, ARRAYS)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match="is cut off or not a safetensors file"):
        read_safetensors(path)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]},
        {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
        {"dtype": "Q7", "shape": [2], "data_offsets": [0, 8]},
        {"shape": [2]},
    ],
)
def test_safetensors_with_a_wrong_header(tmp_path, entry):
    text = json.dumps({"x": entry}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(ValueError, match=r"a.safetensors is cut off or not a safetensors file"):
        read_safetensors(path)


def test_dtypes_that_safetensors_lack(tmp_path):
    with pytest.raises(
        ValueError, match=r"a.safetensors cannot hold these arrays .*complex128.*convert them to float32"
    ):
        write_safetensors(tmp_path / "a.safetensors", {"z": np.zeros(2, np.complex128)})
    assert not list(tmp_path.iterdir())


RAW = {"in.weight": np.ones((2, 3), np.float32), "in.bias": np.zeros(2, np.float32)}
EMA = {name: value + 1 for name, value in RAW.items()}


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_plain_state_dicts(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_state_dict(path, RAW, EMA)
    snapshot = read_snapshot(path)
    same(snapshot.raw, RAW)
    assert snapshot.ema is None
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_both_sets_of_weights_under_their_prefixes(tmp_path):
    both = {f"model_state/{name}": v for name, v in RAW.items()} | {f"ema_shadow/{name}": v for name, v in EMA.items()}
    np.savez(tmp_path / "a.npz", **both)
    snapshot = read_snapshot(tmp_path / "a.npz")
    same(snapshot.raw, RAW)
    same(snapshot.ema, EMA)


class Tensor:
    """As much of a PyTorch tensor as the reader and the writer use."""

    def __init__(self, array):
        self.array = np.asarray(array)

    def detach(self):
        return self

    def cpu(self):
        return self

    def is_floating_point(self):
        return self.array.dtype.kind == "f"

    def float(self):
        return Tensor(self.array.astype(np.float32))

    def numpy(self):
        return self.array


def load_pickle(path, *, map_location, weights_only):
    assert (map_location, weights_only) == ("cpu", True)
    with path.open("rb") as file:
        return pickle.load(file)


@pytest.fixture
def torch(monkeypatch):
    """A stand-in for PyTorch, which need not be installed; the test below runs with the real one where it is."""

    def save(content, path):
        with path.open("wb") as file:
            pickle.dump(content, file)

    module = types.ModuleType("torch")
    module.load, module.save, module.from_numpy = load_pickle, save, Tensor
    monkeypatch.setitem(sys.modules, "torch", module)
    return module


def check_snapshots(torch, path):
    def tensors(state):
        return {f"_orig_mod.{name}": torch.from_numpy(np.array(value)) for name, value in state.items()}

    optimizer = {"state": {0: {"exp_avg": torch.from_numpy(np.zeros(2, np.float32))}}}
    torch.save({"model_state": tensors(RAW), "ema_shadow": tensors(EMA), "step": 70, "optimizer": optimizer}, path)
    snapshot = read_snapshot(path)
    assert set(snapshot.raw) == {"_orig_mod.in.weight", "_orig_mod.in.bias"}
    same({name.removeprefix("_orig_mod."): value for name, value in snapshot.ema.items()}, EMA)
    assert snapshot.step == 70
    torch.save(tensors(RAW), path)
    assert read_snapshot(path).ema is None
    write_state_dict(path, RAW, EMA)
    same(read_snapshot(path).raw, RAW)
    same(read_snapshot(path).ema, EMA)
    torch.save({"epoch": 3}, path)
    with pytest.raises(ValueError, match=r"holds no state_dict: entry 'epoch' is not a tensor; save model.state_dict"):
        read_snapshot(path)
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match="holds a list, not a dictionary"):
        read_snapshot(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="cannot be read as a PyTorch checkpoint"):
        read_snapshot(path)


def test_snapshots(torch, tmp_path):
    check_snapshots(torch, tmp_path / "model.pt")


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs PyTorch")
def test_snapshots_of_pytorch_itself(tmp_path):
    import torch

    check_snapshots(torch, tmp_path / "model.pt")
    torch.save({"a": torch.ones(2, dtype=torch.bfloat16)}, tmp_path / "half.pt")
    same(read_snapshot(tmp_path / "half.pt").raw, {"a": np.ones(2, np.float32)})


def test_absent_pytorch_has_a_remedy(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "model.pt"
    path.write_bytes(b"")
    for action in (lambda: read_snapshot(path), lambda: write_state_dict(path, RAW, None)):
        with pytest.raises(ValueError, match=r"model.pt needs PyTorch: run `python -m pip install torch`"):
            action()


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"shape": (10**12,), "descr": "<f4"}, r"a.npy claims shape \(1000000000000,\) of float32 in 24 bytes"),
        ({"shape": (-3,), "descr": "<f4"}, "a.npy claims shape"),
        ({"shape": (3,), "descr": "|O"}, "a.npy claims shape"),
    ],
)
def test_arrays_that_claim_more_than_their_file_has(tmp_path, header, words):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {**header, "fortran_order": False})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", buffer.getvalue() + bytes(24))
    with pytest.raises(ValueError, match=words):
        read_snapshot(tmp_path / "a.npz")
    np.save(tmp_path / "b.npy", np.ones(3))
    (tmp_path / "b.npy").rename(tmp_path / "b.npz")
    with pytest.raises(ValueError, match="one array without a name"):
        read_snapshot(tmp_path / "b.npz")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.bin", b"", r"ends in '.bin'; name a .pt, .npz or .safetensors file"),
        ("a.npz", b"nonsense", "cannot be read as an npz archive"),
        ("none.npz", None, "is not a file"),
    ],
)
def test_files_that_are_no_checkpoint(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_snapshot(tmp_path / name)


def test_empty_archives(tmp_path):
    np.savez(tmp_path / "a.npz")
    with pytest.raises(ValueError, match="holds no arrays"):
        read_snapshot(tmp_path / "a.npz")


MODEL = ModelDescription("transolver", 2, 1, {"grid_shape": (3, 4), "channel_dim": 8, "act": "gelu"})
CONVERTED = ConvertedModel(
    MODEL, {"raw": RAW, "ema": EMA}, {"dataset": "pipe"}, {"file": "m.pt", "sha256": "0"}, step=5
)


def test_converted_folders_round_trip(tmp_path):
    write_converted(tmp_path / "out" / "run", CONVERTED)
    again = read_converted(tmp_path / "out" / "run")
    assert again.model == MODEL
    assert (again.original, again.source, again.step) == (CONVERTED.original, CONVERTED.source, 5)
    for kind, params in CONVERTED.weights.items():
        same(again.weights[kind], params)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["run"]


def test_other_content_is_not_overwritten(tmp_path):
    (tmp_path / "note").write_text("mine")
    with pytest.raises(ValueError, match="exists and is not empty; name a new folder"):
        write_converted(tmp_path, CONVERTED)
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


def _change_parameters(folder):
    path = folder / "parameters.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _change_version(folder):
    path = folder / "converted.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))


@pytest.mark.parametrize(
    "change",
    [
        {"model": []},
        {"model": {"model_type": "flare"}},
        {"model": {"model_type": 3, "in_dim": 2, "out_dim": 1, "options": {}}},
        {"model": {"model_type": "flare", "in_dim": True, "out_dim": 1, "options": {}}},
        {"model": {"model_type": "flare", "in_dim": 2, "out_dim": 1, "options": []}},
        {"weights": "raw"},
        {"weights": []},
        {"weights": [1, "raw"]},
        {"original": None},
        {"source": []},
        {"step": "5"},
        {"step": True},
        {"digest": 3},
        {"format": "1"},
    ],
)
def test_descriptions_with_wrong_json_types(tmp_path, change):
    write_converted(tmp_path / "run", CONVERTED)
    path = tmp_path / "run" / "converted.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=r"does not describe a converted model .*; convert the checkpoint again"):
        read_converted(tmp_path / "run")


@pytest.mark.parametrize("content", ["[]", "null", '"text"', "[" * 99999])
def test_descriptions_that_are_no_object(tmp_path, content):
    write_converted(tmp_path / "run", CONVERTED)
    (tmp_path / "run" / "converted.json").write_text(content)
    with pytest.raises(ValueError, match="does not describe a converted model"):
        read_converted(tmp_path / "run")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_change_parameters, "does not match its hash; convert the checkpoint again"),
        (lambda folder: (folder / "parameters.safetensors").unlink(), "is missing or does not match its hash"),
        (lambda folder: (folder / "converted.json").write_text("{"), "does not describe a converted model"),
        (lambda folder: (folder / "converted.json").write_text("{}"), "does not describe a converted model"),
        (_change_version, "has format 99 but this version reads 2"),
    ],
)
def test_damaged_folders(tmp_path, damage, message):
    write_converted(tmp_path / "run", CONVERTED)
    damage(tmp_path / "run")
    with pytest.raises(ValueError, match=message):
        read_converted(tmp_path / "run")

"""`python -m flare_jax.convert`: every recorded original into a folder, every model of ours out to PyTorch."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

from flare_jax.convert import TORCH_MAPPINGS, from_torch, to_torch
from flare_jax.convert.__main__ import main
from flare_jax.convert.descriptions import ModelDescription, abstract_parameters
from flare_jax.convert.folder import ConvertedModel, load_converted, read_converted, write_converted
from flare_jax.convert.mappings import has_identity, is_unused
from flare_jax.convert.torch_files import read_snapshot
from flare_jax.models import MODELS
from flare_jax.params import apply_fn, split
from tests.flare_jax.models.cases import CASES, build_perturbed

GOLDENS = Path(__file__).parent.parent.parent / "goldens"


def recorded(file):
    """Return the config and the state_dict of a recorded model, None for files of other kinds."""
    with np.load(file, allow_pickle=False) as arrays:
        config = json.loads(str(arrays["config"]))
        state = {name.removeprefix("param/"): arrays[name] for name in arrays.files if name.startswith("param/")}
    return (config, state) if "model" in config and "kind" not in config and state else None


RECORDED = [file for file in sorted(GOLDENS.glob("*.npz")) if recorded(file)]


@pytest.fixture
def checkpoint(tmp_path):
    """A small recorded model as a user has it: weights with the prefix of a compiled model, an average, a config."""
    config, state = recorded(GOLDENS / "flare_scores.npz")
    return _write_checkpoint(tmp_path, config, state), state


def _write_checkpoint(folder, config, state, suffix=".npz"):
    both = {f"model_state/_orig_mod.{name}": value for name, value in state.items()}
    both |= {f"ema_shadow/_orig_mod.{name}": value + 1 for name, value in state.items()}
    np.savez(folder / "model.npz", **both)
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": config["model"], "args": config["args"]}))
    return [str(folder / "model.npz"), f"--config={folder / 'config.yaml'}", f"--out={folder / 'run'}"]


@pytest.mark.parametrize("file", RECORDED, ids=lambda file: file.stem)
def test_recorded_originals_round_trip(file, tmp_path, capsys):
    """Into a folder and out again: every entry of the original's state_dict comes back, the used ones unchanged."""
    config, state = recorded(file)
    assert main(_write_checkpoint(tmp_path, config, state)) == 0, capsys.readouterr().err
    converted = read_converted(tmp_path / "run")
    model = converted.model
    expected = from_torch(model.model_type, abstract_parameters(model), state)
    for name, value in expected.items():
        np.testing.assert_array_equal(converted.weights["raw"][name], value)
    used = to_torch(model.model_type, expected)
    assert set(used) == {name for name in state if not is_unused(name, TORCH_MAPPINGS[model.model_type])}
    for kind, change in (("raw", 0), ("ema", 1)):
        out = tmp_path / f"{kind}.safetensors"
        assert main([str(tmp_path / "run"), "--to-torch", f"--out={out}", f"--weights={kind}"]) == 0
        again = read_snapshot(out).raw
        assert {name: value.shape for name, value in again.items()} == {k: v.shape for k, v in state.items()}
        for name in used:
            np.testing.assert_array_equal(again[name], state[name] + np.float32(change), err_msg=name)


def test_a_converted_model_predicts_what_was_recorded(checkpoint, tmp_path):
    arguments, _ = checkpoint
    assert main(arguments) == 0
    arrays = np.load(GOLDENS / "flare_scores.npz")
    graphdef, params = split(load_converted(str(tmp_path / "run")))
    prediction = jax.jit(apply_fn(graphdef))(params, jnp.asarray(arrays["input/x"]))
    np.testing.assert_allclose(prediction, arrays["output/out"], atol=5e-5)
    average = split(load_converted(tmp_path / "run", "ema"))[1]
    for name, value in params.items():
        np.testing.assert_array_equal(average[name], np.asarray(value) + np.float32(1))
    with pytest.raises(ValueError, match="weights is 'best' but must be one of 'raw', 'ema'"):
        load_converted(tmp_path / "run", "best")


@pytest.mark.parametrize("case", CASES)
def test_every_model_is_exported(case, tmp_path):
    chosen = CASES[case]
    _, params = build_perturbed(case)
    model = ModelDescription(chosen.model_type, chosen.in_dim, chosen.out_dim, dict(chosen.options))
    write_converted(tmp_path / "run", ConvertedModel(model, {"raw": params}))
    assert main([str(tmp_path / "run"), "--to-torch", f"--out={tmp_path / 'a.npz'}"]) == 0
    again = from_torch(chosen.model_type, params, read_snapshot(tmp_path / "a.npz").raw)
    assert list(again) == list(params)
    for name, value in params.items():
        # Adding and subtracting the identity rounds.
        rounding = 1e-6 if has_identity(name, TORCH_MAPPINGS[chosen.model_type]) else 0.0
        np.testing.assert_allclose(again[name], value, rtol=0, atol=rounding, err_msg=name)


def test_cases_cover_every_model():
    assert {case.model_type for case in CASES.values()} == set(MODELS)


def _error(arguments, capsys):
    """Return what a failing command says: one sentence, and the lines below it."""
    assert main(arguments) == 2
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.startswith("error: ")
    return first, rest


def test_keys_that_do_not_fit_are_listed_and_nothing_is_written(checkpoint, tmp_path, capsys):
    arguments, state = checkpoint
    del state["in_proj.fc1.bias"]
    state |= {f"extra.{number}": np.zeros(1) for number in range(12)} | {"blocks.0.att.latent_q": np.zeros((3, 3))}
    np.savez(tmp_path / "model.npz", **state)
    sentence, listed = _error(arguments, capsys)
    assert "1 missing keys" in sentence
    assert "  missing: in_proj.fc1.bias" in listed
    assert {f"  unmatched: extra.{number}" for number in range(12)} <= set(listed)  # all, not only the first few
    assert any(line.startswith("  misshapen: blocks.0.att.latent_q") for line in listed)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "model.npz"]


def test_weights_that_are_not_finite_are_refused(checkpoint, tmp_path, capsys):
    arguments, state = checkpoint
    state["in_proj.fc1.bias"] = state["in_proj.fc1.bias"] * np.nan
    np.savez(tmp_path / "model.npz", **state)
    sentence, _ = _error(arguments, capsys)
    assert "holds NaN or infinity in the raw weights of in_proj.fc1.bias" in sentence
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("dtype", [np.complex64, np.int64, bool])
def test_weights_that_are_no_real_numbers_are_refused(checkpoint, tmp_path, capsys, dtype):
    arguments, state = checkpoint
    state["in_proj.fc1.bias"] = state["in_proj.fc1.bias"].astype(dtype)
    np.savez(tmp_path / "model.npz", **state)
    assert f"in_proj.fc1.bias of the state_dict has dtype {np.dtype(dtype)}" in _error(arguments, capsys)[0]
    assert not (tmp_path / "run").exists()


def _bomb(levels):
    """Return YAML of which every line stands for ten times as many values as the one before."""
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (_bomb(12), "it refers to 'a0', write the value itself there"),
        ("a: &a [*a]", "it refers to 'a'"),
        ("[" * 50_000, "cannot be read as YAML"),
        ("{a: " * 5000, "cannot be read as YAML"),
        ("a: " + "1" * 10_000, "cannot be read as YAML"),
        ("a: 2001-99-99", "cannot be read as YAML"),
        ("a: !!python/object/apply:os.system [true]", "cannot be read as YAML"),
        ("a: 1\n" * 20_000, "too many for a config"),
        ("\xff", "cannot be read as YAML"),
        ("", "holds no fields"),
        ("- 1", "holds no fields"),
    ],
)
def test_configs_that_are_none(checkpoint, tmp_path, capsys, content, words):
    arguments, _ = checkpoint
    (tmp_path / "config.yaml").write_bytes(content.encode("latin1"))
    assert words in _error(arguments, capsys)[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", [100_000, 10**12, -1, 1.5, "many", [1], None, True])
def test_numbers_of_blocks_that_the_checkpoint_has_not(checkpoint, tmp_path, capsys, number):
    arguments, _ = checkpoint
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    config["args"]["num_blocks"] = number
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert "num_blocks" in _error(arguments, capsys)[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a[:1] + a[2:], "--config=FILE is missing"),
        (lambda a: [*a, "--step=3"], "--step=3 goes with --to-torch"),
        (lambda a: [*a, "--weights=ema"], "--weights=ema goes with --to-torch"),
        (lambda a: [*a, "--random-features=1"], "--random-features=1 has no effect on a model without random features"),
        (
            lambda a: [a[0], "--to-torch", "--out=a.npz", "--random-features=1"],
            "goes with a checkpoint of the original",
        ),
        (lambda a: ["nothing.npz", *a[1:]], "nothing.npz is not a file"),
        (lambda a: [*a[:2], f"--out={Path(a[0]).parent}"], "exists and is not empty"),
        (lambda a: [*a, "--to-torch"], "goes with a checkpoint of the original"),
        (lambda a: [a[0], "--to-torch", "--out=a.npz"], "holds no checkpoints"),
        (lambda a: [a[0], "--to-torch", "--out=a.bin"], "ends in '.bin'"),
    ],
)
def test_commands_that_make_no_sense(checkpoint, change, words, capsys):
    arguments, _ = checkpoint
    assert words in _error(change(arguments), capsys)[0]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--out=OUT/model.npz"], "exists; name a new file"),
        (["--out=OUT/a.npz", "--step=3"], "chooses among checkpoints"),
    ],
)
def test_exports_that_make_no_sense(checkpoint, tmp_path, more, words, capsys):
    arguments, _ = checkpoint
    assert main(arguments) == 0
    more = [text.replace("OUT", str(tmp_path)) for text in more]
    assert words in _error([str(tmp_path / "run"), "--to-torch", *more], capsys)[0]


def test_weights_that_a_folder_has_not(tmp_path, capsys):
    write_converted(tmp_path / "run", ConvertedModel(ModelDescription("flare", 1, 1, {}), {"raw": {"a": np.zeros(1)}}))
    arguments = [str(tmp_path / "run"), "--to-torch", f"--out={tmp_path / 'a.npz'}", "--weights=ema"]
    assert "holds raw weights; choose those" in _error(arguments, capsys)[0]

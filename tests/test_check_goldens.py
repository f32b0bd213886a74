"""The golden files of this folder pass, and the checker fails, with a reason, on whatever is wrong with a file."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from tests.check_goldens import check_file, checker_name, main
from tests.golden_checks import models, recursive_models, sequence_models
from tests.golden_checks.sequence_models import compare_gradients, compare_output

pytestmark = pytest.mark.slow

GOLDENS = Path(__file__).parent / "goldens"


def changed_copy(tmp_path, source, change):
    """Write a copy of a golden file after `change(arrays, config)`; return its path."""
    arrays = dict(np.load(GOLDENS / source))
    config = json.loads(str(arrays["config"]))
    change(arrays, config)
    np.savez(tmp_path / "copy.npz", **(arrays | {"config": np.array(json.dumps(config))}))
    return tmp_path / "copy.npz"


# The files of kernels are checked beside the kernels.
@pytest.mark.parametrize(
    "file", sorted(set(GOLDENS.glob("*.npz")) - set(GOLDENS.glob("kernel_*.npz"))), ids=lambda f: f.stem
)
def test_golden(file):
    line, passed = check_file(file)
    assert passed, line


def add(key, amount):
    def change(arrays, config):
        arrays[key] = arrays[key] + np.asarray(amount, arrays[key].dtype)

    return change


def set_config(*path, value):
    def change(arrays, config):
        *parents, last = path
        for key in parents:
            config = config[key]
        config[last] = value

    return change


def drop(key):
    return lambda arrays, config: arrays.pop(key)


def test_metadata_may_be_null_or_missing(tmp_path):
    """What a file says of its own rounding and of unused parameters is optional; the latter are known anyway."""

    def change(arrays, config):
        config["fp32_vs_fp64"] = config["params_without_grad"] = None

    line, passed = check_file(changed_copy(tmp_path, "transolver_pp_base.npz", change))
    assert passed, line


def test_the_configuration_may_be_stored_as_bytes(tmp_path):
    arrays = dict(np.load(GOLDENS / "sequence_metrics_p1.npz"))
    np.savez(tmp_path / "bytes.npz", **(arrays | {"config": np.array([str(arrays["config"]).encode()])}))
    line, passed = check_file(tmp_path / "bytes.npz")
    assert passed, line


def test_every_wrong_array_is_found():
    arrays = dict(np.load(GOLDENS / "flare_scores.npz"))
    config = json.loads(str(arrays.pop("config")))
    changes = [
        add("output/out", 1e-3),
        add("output/scores_1", 1e-3),
        add("grad_param/blocks.1.att.latent_q", 1.0),
        add("grad_param/in_proj.fc2.bias", np.nan),
        add("grad_input/x", 0.1),
        drop("grad_param/in_proj.fc1.bias"),
    ]
    for change in changes:
        change(arrays, config)
    failed = {(c.kind, c.name) for c in models.check(arrays, config) if not c.passed}
    assert failed == {
        ("output", "out"),
        ("output", "scores_1"),
        ("gradient", "blocks.1.att.latent_q"),
        ("gradient", "in_proj.fc2.bias"),
        ("gradient", "input x"),
        ("gradient", "in_proj.fc1.bias"),
    }


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (drop("param/in_proj.fc1.bias"), "1 missing keys: in_proj.fc1.bias"),
        (drop("cotangent"), "not a readable golden file .KeyError: 'cotangent"),
        (set_config("model", value="unheard_of"), "there is no model for 'unheard_of'"),
        (set_config("kind", value="unheard_of"), "there is no checker for files of kind 'unheard_of'"),
        (set_config("args", "num_heads", value=3), "num_heads 3 does not divide channel_dim 16"),
        (set_config("args", "unheard_of", value=3), "has no option 'unheard_of'"),
        (set_config("args", "rmsnorm", value=True), "unmatched keys"),
        (set_config("args", "act", value="silu"), "FAIL: .* arrays, worst .* > "),
    ],
)
def test_model_files_that_must_fail(tmp_path, change, reason):
    line, passed = check_file(changed_copy(tmp_path, "flare_scores.npz", change))
    assert not passed
    assert line.startswith("copy.npz  ")
    assert "FAIL" in line
    assert re.search(reason, line), line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("linear_p2", set_config("kwargs", "kernel", value="elu")),
        ("performer_p1", drop("buffer/blocks.1.att.proj_matrix")),
        ("losses_p1", add("output/multi_tok.loss", 1e-4)),
        ("losses_p1", add("output/collate.labels", 1)),
        ("metrics_p1", set_config("expected", "multi_tok", "token_accuracy", value=0.601)),
        ("dataset_match3_p1", set_config("kwargs", "seed", value=43)),
        ("dataset_mta_p1", add("output/labels", 1)),
        ("embeddings_p1", add("output/rope", 1e-3)),
        ("feature_maps_p1", add("grad_input/hedgehog", 1e-3)),
        ("ema_module_p2_clamped", add("grad_param/conv.eta", 1.0)),
    ],
)
def test_sequence_files_that_must_fail(tmp_path, file, change):
    line, passed = check_file(changed_copy(tmp_path, f"sequence_{file}.npz", change))
    assert not passed, line


@pytest.mark.parametrize(
    ("file", "check", "changes", "wrong"),
    [
        (
            "linear_p2",
            sequence_models.check,
            [
                add("output/logits", 1e-3),
                add("grad_param/blocks.1.att.qkv_proj.bias", 1.0),
                drop("grad_param/blocks.0.norm1.weight"),
            ],
            {"logits", "blocks.1.att.qkv_proj.bias", "blocks.0.norm1.weight"},
        ),
        (
            "trm_transformer_p1",
            recursive_models.check,
            [add("step0/z", 1e-2), add("output/step_losses", 1e-2)],
            {"step0/z", "step_losses"},
        ),
    ],
    ids=["linear", "trm"],
)
def test_every_wrong_array_of_a_sequence_model_is_found(file, check, changes, wrong):
    arrays = dict(np.load(GOLDENS / f"sequence_{file}.npz"))
    config = json.loads(str(arrays.pop("config")))
    for change in changes:
        change(arrays, config)
    assert {c.name for c in check(arrays, config) if not c.passed} == wrong


def test_buffers_other_than_random_features_do_not_matter(tmp_path):
    def add_counter(arrays, config):
        arrays["buffer/blocks.0.att.calls"] = np.zeros((), np.int64)

    line, passed = check_file(changed_copy(tmp_path, "sequence_performer_p1.npz", add_counter))
    assert passed, line


def test_losses_without_valid_labels_are_zero(tmp_path):
    """The original's mean over no label is NaN for several classes."""

    def ignore_all(arrays, config):
        arrays["input/multi_tok.labels"][...] = config["ignore_index"]
        arrays["output/multi_tok.loss"] = np.float32(np.nan)
        arrays["grad_input/multi_tok.logits"][...] = np.nan

    line, passed = check_file(changed_copy(tmp_path, "sequence_losses_p1.npz", ignore_all))
    assert passed, line


def test_tolerances_of_sequence_models_grow_with_the_rounding_error_of_the_file():
    expected = np.ones(3)
    assert compare_output("y", expected, expected).tolerance == 2e-5 + 1e-4
    assert compare_output("y", expected, expected, 1e-3).tolerance == 1e-2
    for stated, tolerance in ((None, 1e-3), (1e-6, 1e-3), (1e-2, 1e-1)):
        config = {"f32_vs_f64": stated and {"grad_max_rel_to_tensor_max": stated}}
        (result,) = compare_gradients({"w": expected}, {"w": expected}, config)
        assert np.isclose(result.tolerance, tolerance)


@pytest.mark.parametrize("key", ["eigenvalues", "eigenvectors", "W", "csum"])
def test_spectrum_files_that_must_fail(tmp_path, key):
    line, passed = check_file(changed_copy(tmp_path, "spectrum_base.npz", add(f"output/{key}", 0.02)))
    assert not passed
    assert f"worst output {key}" in line


def test_an_output_of_nan_fails(tmp_path):
    line, passed = check_file(changed_copy(tmp_path, "spectrum_base.npz", add("output/W", np.nan)))
    assert not passed, line


def test_files_that_are_no_goldens_fail(tmp_path):
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "bare.npz", x=np.zeros(2))
    for name in ("text.npz", "bare.npz", "absent.npz"):
        line, passed = check_file(tmp_path / name)
        assert not passed
        assert line.startswith(f"{name}  FAIL: ")


@pytest.mark.parametrize(
    ("config", "module"),
    [
        ({"model": "flare"}, "models"),
        ({"model": "spectrum"}, "spectrum"),
        ({"kind": "kernel/flare_mixer"}, "kernels"),
        ({"kind": "embeddings"}, "embeddings"),
        ({"model_type": "ModelWrapper", "backend": "flare"}, "sequence_models"),
        ({"model_type": "TRMWrapper", "backend": "flare"}, "recursive_models"),
    ],
)
def test_the_configuration_chooses_the_checker(config, module):
    assert checker_name(config) == module


def test_command_line(tmp_path, capsys):
    (tmp_path / "text.npz").write_text("no archive")
    good = GOLDENS / "spectrum_base.npz"
    assert main([str(good)]) == 0
    assert main([str(good), str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("spectrum_base.npz  output ")
    assert lines[0].endswith("PASS")
    assert lines[1] == "1 of 1 files pass"
    assert lines[3].startswith("text.npz  FAIL")
    assert lines[4] == "1 of 2 files pass"


def test_command_line_without_files(tmp_path, capsys):
    assert main([str(tmp_path)]) == 1
    assert "holds no .npz file" in capsys.readouterr().err
    assert main([str(tmp_path / "absent")]) == 1
    assert "does not exist" in capsys.readouterr().err

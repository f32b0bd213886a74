"""The sequence program: outputs, evaluation, resuming, seeds, and one sentence for each bad input."""

import csv
import errno
import itertools
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from configs import lra
from data_pipeline.generate import generate
from experiments import workdir
from experiments.errors import UserError
from experiments.lra import figures, report
from experiments.training.records import read_log
from runtime.locks import locked
from tests.experiments.lra.programs import lra_command, run_here, tiny
from tests.experiments.programs import draw_no_more

pytestmark = pytest.mark.slow

MATCH3 = "task=match3,model=flare"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def finished(data_dir, tmp_path_factory):
    """A run with dropout and averaged weights, trained to its end."""
    run = tmp_path_factory.mktemp("finished")
    changes = {"model__attn_drop": 0.1, "train__ema_decay": 0.9, "checkpoint__every": 5, "figures": True}
    config = tiny(MATCH3, data_dir, **changes)
    summary = run_here(config, run, {"model.attn_drop": 0.1})
    config.figures = False
    draw_no_more(run)
    return run, config, summary


def test_a_run_writes_all_its_outputs(finished):
    run, _, summary = finished
    assert {"validation/token_accuracy", "validation/sequence_accuracy", "validation/loss", "train/loss"} <= set(
        summary
    )
    assert {"validation/token_accuracy_ema", "validation/token_accuracy_majority"} <= set(summary)
    assert summary["headline"] == "token_accuracy"
    assert summary["data"]["kind"] == "generated"
    with (run / "per_case.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "validation"]
    weights = [float(row["valid_labels_raw"]) for row in rows]
    mean = np.average([float(row["token_accuracy_raw"]) for row in rows], weights=weights)
    np.testing.assert_allclose(mean, summary["validation/token_accuracy"], rtol=1e-6)
    names = {path.name for path in (run / "figures").iterdir()}
    assert names == {"learning_curves.png", "validation_confusion.png", "accuracy_by_length.png"}
    assert json.loads((run / "config.json").read_text())["overrides"] == {"model.attn_drop": "0.1"}


def test_steps_are_timed_and_nothing_else_is_kept(data_dir, tmp_path):
    costs = run_here(tiny(MATCH3, data_dir), tmp_path / "run", mode="time")
    assert costs["epoch_s"] > 0
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["timing.json"]


def test_confusion_and_lengths_agree_with_the_accuracy(finished):
    _, _, summary = finished
    counts = np.array(summary["validation/confusion"])
    assert counts.shape == (2, 2)
    np.testing.assert_allclose(np.trace(counts) / counts.sum(), summary["validation/token_accuracy"], rtol=1e-6)
    ranges = summary["validation/by_length"]
    assert len(ranges) > 1
    assert all(a["last"] < b["first"] for a, b in itertools.pairwise(ranges))


def test_the_log_holds_the_headline_of_both_weights(finished):
    run, _, summary = finished
    (last,) = [line for line in read_log(run / "metrics.jsonl") if line["event"] == "eval"][-1:]
    np.testing.assert_allclose(
        last["validation/token_accuracy_ema"], summary["validation/token_accuracy_ema"], rtol=1e-6
    )


def test_a_folder_that_may_only_be_read_costs_the_files_alone(finished, tmp_path, monkeypatch, capsys):
    run, config, summary = finished
    shutil.copytree(run, tmp_path / "run")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def refuse(source, target):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "replace", refuse)
    assert run_here(config, tmp_path / "run", mode="eval") == summary
    output = capsys.readouterr().out
    assert "\n".join(report.result_lines(summary, "token_accuracy")) in output
    assert "cannot be written (Read-only file system); the results are not kept there" in output
    with pytest.raises(OSError, match="Read-only"):
        run_here(config, tmp_path / "run", mode="train")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_two_processes_do_not_train_in_one_folder(finished):
    run, config, _ = finished
    with locked(run, "busy"), pytest.raises(ValueError, match="another process is training in --workdir="):
        run_here(config, run)


def test_a_damaged_checkpoint_costs_nothing_but_time(finished, tmp_path):
    run, config, summary = finished
    shutil.copytree(run, tmp_path / "run")
    newest = tmp_path / "run" / "checkpoints" / str(summary["step"])
    for path in (newest / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    # Training goes on from the previous checkpoint, with the same dropout, and ends where it ended before.
    assert run_here(config, tmp_path / "run") == summary


def test_evaluation_from_the_workdir_alone_reproduces_the_result(finished, tmp_path):
    run, _, summary = finished
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "eval.json").unlink()
    result = lra_command("--mode=eval", f"--workdir={tmp_path / 'run'}")
    assert result.returncode == 0, result.stderr
    again = json.loads((tmp_path / "run" / "eval.json").read_text())
    # This process multiplies at another precision than the command does.
    assert again["validation/by_length"][0]["samples"] == summary["validation/by_length"][0]["samples"]
    np.testing.assert_allclose(again["validation/loss"], summary["validation/loss"], rtol=1e-4)
    assert "always the commonest class" in result.stdout


def test_a_finished_run_only_evaluates_and_another_config_is_refused(finished, tmp_path):
    run, config, summary = finished
    shutil.copytree(run, tmp_path / "run")
    log = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert run_here(config, tmp_path / "run") == summary
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == log
    other = config.copy_and_resolve_references()
    other.train.batch_size = 4
    with pytest.raises(UserError, match=r"train\.batch_size was 8, now 4"):
        run_here(other, tmp_path / "run")
    loaded = workdir.load_run_config(run)
    (tmp_path / "run" / "eval.json").unlink()
    assert run_here(loaded, tmp_path / "run", mode="eval") == summary
    earlier = run_here(loaded, run, mode="eval", step=15)
    assert earlier == summary  # eval.json is the final one; the other step has its own file
    assert json.loads((run / "eval_step_15.json").read_text())["step"] == 15


def test_a_run_is_not_resumed_on_other_data(finished, tmp_path):
    run, config, _ = finished
    shutil.copytree(run, tmp_path / "run")
    other = config.copy_and_resolve_references()
    other.data.dir = str(tmp_path / "data")  # the folder may be another one, if its data are the same
    shutil.copytree(Path(config.data.dir), Path(other.data.dir))
    run_here(other, tmp_path / "run")
    shutil.rmtree(other.data.dir)
    generate("match3", Path(other.data.dir), num=config.data.num_generate, seed=1, progress=False)
    with pytest.raises(UserError, match=r"the data in .* are not those that .* was begun with; use the same data, or"):
        run_here(other, tmp_path / "run")


def test_several_seeds(data_dir, tmp_path):
    config = tiny(MATCH3, data_dir, train__seeds=(0, 3), train__parallel_seeds=2, train__steps=2, eval__every=2)
    combined = run_here(config, tmp_path)
    value = combined["validation/token_accuracy"]
    assert len(value["values"]) == 2
    assert 0 <= combined["validation/token_accuracy_ensemble"] <= 1
    assert (tmp_path / "seed_3" / "eval.json").exists()
    np.testing.assert_allclose(value["mean"], np.mean(value["values"]))


def test_recursive_model_takes_its_steps_on_every_batch(data_dir, tmp_path):
    few = {"train__steps": 4, "eval__every": 4}
    config = tiny("task=match3,model=transformer,trm", data_dir, train__halt_weight=0.5, eval__until_halt=True, **few)
    summary = run_here(config, tmp_path)
    assert summary["step"] == config.train.steps * config.model.num_steps
    assert 0 <= summary["validation/token_accuracy"] <= 1


def test_random_features_are_redrawn_in_training(data_dir, tmp_path):
    last = {}
    for interval in (0, 3):
        config = tiny("task=match3,model=performer", data_dir, model__redraw_interval=interval, train__steps=4)
        folder = tmp_path / str(interval)
        run_here(config, folder)
        steps = [line for line in read_log(folder / "metrics.jsonl") if line["event"] == "train"]
        last[interval] = steps[-1]["grad_norm"]
    assert last[0] != last[3]


def test_flare_learns(tmp_path):
    """Whether the first two tokens are the same, which no average over single tokens tells."""
    generator = np.random.default_rng(0)
    folder = tmp_path / "LongRangeArena"
    folder.mkdir()
    for split, samples in (("train", 64 * 250), ("dev", 200)):
        ids = generator.integers(0, 2, (samples, 5))
        labels = (ids[:, 0] == ids[:, 1]).astype(int)
        rows = [{"input_ids_0": row, "label": label} for row, label in zip(ids, labels, strict=True)]
        (folder / f"lra-text.{split}.pickle").write_bytes(pickle.dumps(rows))
    config = tiny("task=text,model=flare", tmp_path, data__source="files", train__steps=500)
    config.train.batch_size = 64
    config.eval.every = config.checkpoint.every = 500
    config.optimizer.learning_rate = 4e-3
    summary = run_here(config, tmp_path / "run")
    assert summary["validation/sequence_accuracy_majority"] < 0.7
    assert summary["validation/sequence_accuracy"] > 0.95


@pytest.mark.parametrize(
    ("argument", "changes", "given", "words"),
    [
        (MATCH3, {"model__num_heads": 3}, {}, "num_heads 3 does not divide channel_dim 16"),
        (MATCH3, {"model__kernel_size": 3}, {}, "has no option 'kernel_size'"),
        (MATCH3, {"model__act": "relu6"}, {}, "relu6"),
        (MATCH3, {"mesh__points": 2}, {}, "mesh.points=2, but sequence models are split over samples only"),
        (MATCH3, {"eval__train_samples": -1}, {}, "eval.train_samples is -1"),
        (MATCH3, {"data__n_train": 100_000}, {}, "data.n_train=100000, but match3 has"),
        (MATCH3, {"train__epochs": 2}, {}, "exactly one of them must be positive"),
        (MATCH3, {"model__pool": "max"}, {"model.pool": "max"}, "model.pool has no effect on match3"),
        (MATCH3, {"model__rope_mode": "interleaved"}, {"model.rope_mode": ""}, "no effect with model.pos_embed=abs"),
        ("task=listops,model=flare", {}, {"model.masked_pool": ""}, "no effect on listops, where no padding is masked"),
        ("task=sudoku,model=ema", {}, {"model.num_heads": 2}, "no effect with model.backend=ema, which has one head"),
        ("task=match3,model=triple", {}, {"model.qk_dim_ratio": 2}, "no effect with model.kernel=identity"),
        ("task=text,model=flare", {"data__source": "auto"}, {"data.num_generate": 9}, "has artificial samples only"),
        (MATCH3, {}, {"data.name": "sudoku"}, "config.data.name=sudoku cannot be changed by itself; choose task and"),
        (MATCH3, {}, {"model.type": "trm"}, "config.model.type=trm cannot be changed by itself"),
        ("task=match3,model=flare,trm", {"eval__until_halt": True}, {}, "needs a trained halting head"),
        ("task=match3,model=linformer", {"model__masked": False}, {}, "mask"),
        ("task=match3,model=ema", {"model__pos_embed": "rope"}, {}, "no rotary embeddings"),
        (MATCH3, {"data__source": "files", "data__dir": "nowhere"}, {}, "python -m data_pipeline.generate match3"),
        ("task=text,model=flare", {"data__source": "auto", "data__dir": "nowhere"}, {}, "aclImdb"),
        (MATCH3, {"data__generate_seed": 5}, {"data.generate_seed": 5}, "data.generate_seed=5 has no effect, for the"),
        ("task=match3,model=flare,trm", {"train__accumulation": 2}, {}, "train.accumulation=2"),
        ("task=match3,model=flare,trm", {"train__halt_weight": -1.0}, {}, "train.halt_weight is -1.0"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, data_dir, argument, changes, given, words):
    config = tiny(argument, data_dir, **changes)
    with pytest.raises((UserError, ValueError)) as raised:
        run_here(config, tmp_path / "run", given)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--config=configs/lra.py:task=listop,model=flare", "'listop' is not a task"),
        ("--config=configs/lra.py:task=listops,model=flare --config.model.num_latent=3", "config.model.num_latents"),
        ("--config=configs/flare_elas.py", "use python -m experiments.pdebench"),
    ],
)
def test_bad_command_lines(argument, words):
    result = lra_command(*argument.split())
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert words in result.stderr


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("task=match2,model=flare", "match2.*choose one of binary_relation"),
        ("task=listops,model=flares", "did you mean 'flare'"),
        ("task=listops", "'model' is missing"),
        ("task=listops,model=flare,tm", "did you mean 'trm'"),
        ("task=listops,model=third_order,smoke", "third_order, whose cost is the cube .* would take hours on listops"),
    ],
)
def test_bad_config_arguments(argument, words):
    with pytest.raises(ValueError, match=words):
        lra.get_config(argument)


def test_figures_show_what_they_are_given():
    counts = np.array([[3, 1], [0, 4]])
    figure = figures.confusion_figure(counts, ("no", "yes"), "title")
    shown = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(shown, [[0.75, 0.25], [0.0, 1.0]])
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["no", "yes"]
    rows = {"test": [{"first": 1, "last": 3, "acc": 0.5}, {"first": 4, "last": 4, "acc": 1.0}]}
    np.testing.assert_allclose(figures.length_figure(rows, "acc").axes[0].lines[0].get_xydata(), [[2, 0.5], [4, 1.0]])


def test_result_lines():
    summary = {
        "test/sequence_accuracy": 0.5,
        "test/loss": 1.25,
        "test/sequence_accuracy_majority": 0.1,
        "weights": "raw",
    }
    (line,) = report.result_lines({**summary, "train/sequence_accuracy": 1.0}, "sequence_accuracy")
    assert line == "test sequence_accuracy 50.00 % (raw weights), loss 1.25, always the commonest class 10.00 %"

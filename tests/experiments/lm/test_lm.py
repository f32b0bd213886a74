"""The language model program: training, resuming bit for bit, evaluation from the folder, errors before any work."""

import json

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.lm import MODELS, get_config
from experiments import program
from experiments.errors import UserError
from experiments.experiment import run
from experiments.lm import models
from experiments.lm.main import PROGRAM
from experiments.lm.options import check_lm_options
from experiments.lm.task import _documents, averaged_scores, loss_by_position
from flare_jax.models.language import SIZES
from runtime.json_files import read_object
from tests.experiments.programs import draw_no_more, environment
from tests.program_server import run_program

TEXT = "to be or not to be, that is the question: whether tis nobler in the mind.\n" * 60


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT)
    return path


def config(text, figures=False, model="recommended", **options):
    chosen = get_config(f"model={model},size=tiny,smoke")
    chosen.data.path, chosen.data.dir = str(text), str(text.parent)
    chosen.figures = figures
    for name, value in options.items():
        section, _, option = name.partition("__")
        chosen[section][option] = value
    return chosen


def train(chosen, folder, mode="train"):
    run(program.Request(ConfigDict(chosen.to_dict()), folder, {}, mode), PROGRAM)
    return read_object(folder / "eval.json")


@pytest.fixture(scope="module")
def trained(text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    summary = train(config(text, figures=True, eval__streaming=True), folder)
    draw_no_more(folder)
    return folder, summary


def test_a_run_learns_and_reports_bits_per_byte(trained):
    folder, summary = trained
    assert summary["headline"] == "bits_per_byte"
    np.testing.assert_allclose(summary["test/bits_per_byte"], summary["test/loss"] / np.log(2), rtol=1e-2)
    log = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in log if line["event"] == "train"]
    assert losses[-1] < losses[0] < 6
    rows = summary["test/by_position"]
    assert [row["first"] for row in rows] == [0, 1, 2, 4, 8, 16]
    np.testing.assert_allclose(
        np.average([row["loss"] for row in rows], weights=[row["labels"] for row in rows]), summary["test/loss"], 1e-4
    )
    assert summary["data"]["detail"]["bytes"]["train"] == int(0.9 * len(TEXT))
    # One document, and little trained: its beginning is known to no row but the first.
    assert abs(summary["test/bits_per_byte_streaming"] / summary["test/bits_per_byte"] - 1) < 0.1
    assert summary["test/bits_per_byte_streaming"] != summary["test/bits_per_byte"]


def test_an_evaluation_from_the_folder_and_a_resumed_run_give_the_same_numbers(trained, text, tmp_path):
    folder, summary = trained
    again = train(program.workdir.load_run_config(folder), folder, "eval")
    assert again["test/bits_per_byte"] == summary["test/bits_per_byte"]
    # The half of a run: its newest checkpoint is taken away, as an interruption would have.
    half = tmp_path / "half"
    program.workdir.shutil.copytree(folder, half)
    newest = max((half / "checkpoints").iterdir(), key=lambda path: int(path.name) if path.name.isdigit() else -1)
    program.workdir.shutil.rmtree(newest)
    resumed = train(config(text, eval__streaming=True), half)
    assert resumed["test/bits_per_byte"] == summary["test/bits_per_byte"]
    assert resumed["step"] == summary["step"] == 20


def test_four_devices_share_rows_of_text_as_one_reads_them(text, tmp_path):
    """Rows are split over two devices and batches over two, with documents that begin anywhere."""
    common = [
        "--config=configs/lm.py:model=recommended,size=tiny,smoke", f"--config.data.path={text}",
        f"--data_dir={text.parent}", "--config.figures=False", "--config.train.steps=4", "--config.eval.every=4",
        "--config.data.reset_documents=True",
        "--config.eval.train_samples=14",  # as many as the test has: one program
    ]  # fmt: skip
    found = {}
    for name, options in (("one", []), ("four", ["--config.mesh.data=2", "--config.mesh.points=2"])):
        count = 4 if options else 1
        env = environment(XLA_FLAGS=f"--xla_force_host_platform_device_count={count}")
        result = run_program("experiments.lm", [*common, *options, f"--workdir={tmp_path / name}"], env=env)
        assert result.returncode == 0, result.stderr[-3000:]
        found[name] = read_object(tmp_path / name / "eval.json")
    for metric in ("test/bits_per_byte", "train/bits_per_byte"):
        np.testing.assert_allclose(found["four"][metric], found["one"][metric], rtol=1e-5)


def test_recall_is_scored_on_its_answers(tmp_path, capsys):
    chosen = get_config("model=gla,size=recall32,recall,smoke")
    chosen.figures = False
    chosen.train.seeds, chosen.train.parallel_seeds = (0, 1), 2
    combined = train(chosen, tmp_path / "recall")
    assert " tokens/s, " in capsys.readouterr().out
    summary = read_object(tmp_path / "recall" / "seed_1" / "eval.json")
    assert summary["headline"] == "accuracy"
    assert 0 <= summary["test/accuracy"] <= 1
    assert 2 < summary["test/loss"] < 5
    # The logarithm of a mean is no less than the mean of the logarithms.
    assert combined["test/loss_ensemble"] <= combined["test/loss"]["mean"]
    assert "test/accuracy_ensemble" not in combined


@pytest.mark.parametrize("model", MODELS)
def test_every_config_is_complete_and_traced(model):
    for size in SIZES:
        chosen = get_config(f"model={model},size={size}")
        program.check_complete(chosen, "config")
        assert program.program_of(chosen) == "lm"
    chosen = get_config(f"model={model},size=tiny,recall")
    check_lm_options(chosen, {})
    models.check_model(chosen)


@pytest.mark.parametrize(
    ("options", "given", "message"),
    [
        ({"data__path": ""}, {}, "data.path is empty; name a text file or a folder"),
        ({"data__path": "absent.txt"}, {}, "data.path=absent.txt does not exist"),
        ({"data__length": 5000}, {}, "too few for a row of data.length=5000 and the label of its last one; lower it"),
        ({"train__batch_size": 512}, {}, "the training text gives 12. rows of 32 tokens, fewer than the 512"),
        ({"model__block": 4, "model__forget": False}, {}, "model.block=4 shows a token the rest of its block"),
        (
            {"mesh__points": 2, "model__gather": "state"},
            {},
            "mesh.points=2, but devices share .* not with model.gather=st",
        ),
        ({"mesh__points": 3}, {}, "data.length=32 is no multiple of mesh.points=3; change one of them"),
        ({}, {"data.vocab_size": 9}, "data.vocab_size has no effect with data.tokenizer=bytes"),
        ({}, {"data.files": "*.md"}, "data.files has no effect where data.path is one file"),
        ({}, {"model.type": "gla"}, "cannot be changed by itself; choose model and data by"),
        ({"data__test": "*.md"}, {"data.test_share": 0.2}, "data.test_share has no effect with data.val or data.test"),
        ({"eval__streaming": True, "model__type": "causal_attention"}, {}, "needs a state of constant size"),
        ({"eval__streaming": True, "data__reset_documents": True}, {}, "which data.reset_documents=True empties"),
        ({"data__test_share": 0.6, "data__val_share": 0.5}, {}, "leave nothing to train; lower them"),
    ],
)
def test_bad_options_are_one_sentence(text, tmp_path, options, given, message):
    with pytest.raises((UserError, ValueError), match=message) as error:
        run(program.Request(config(text, **options), tmp_path / "bad", given), PROGRAM)
    assert "\n" not in str(error.value)


def test_averaged_scores_are_those_of_the_mean_probabilities():
    probabilities = np.array([[[0.5, 0.1]], [[0.3, 0.9]]])
    losses, hits = averaged_scores((-np.log(probabilities), np.array([[[True, False]], [[False, False]]])))
    np.testing.assert_allclose(losses, -np.log([[0.4, 0.5]]), rtol=1e-6)
    np.testing.assert_allclose(hits, [[0.5, 0.0]])


def test_documents_begin_after_separators_and_losses_are_summed_by_position():
    ids = np.array([[5, 0, 7, 8, 0, 0, 9]])
    np.testing.assert_array_equal(_documents(ids), [[0, 0, 1, 1, 1, 2, 3]])
    np.testing.assert_allclose(loss_by_position((np.arange(6.0)[None], None), {}), [[0, 1, 5, 9]])


def test_a_run_writes_text_from_its_folder_alone(trained, tmp_path):
    folder, _ = trained
    arguments = [f"--workdir={folder}", "--tokens=20", "--temperature=0.9", "--top_k=20", "--seed=3"]
    alone = run_program("experiments.generate", [*arguments, "--prompt=To be"], env=environment())
    assert alone.returncode == 0, alone.stderr
    assert alone.stdout.startswith("To be")
    several = run_program(
        "experiments.generate", [*arguments, "--prompt=To be", "--prompt=whether tis nobler in"], env=environment()
    )
    assert several.stdout.startswith(f"--- 1 of 2\n{alone.stdout}--- 2 of 2\nwhether tis nobler in")
    refused = run_program("experiments.generate", [f"--workdir={tmp_path}"], env=environment())
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    content = json.loads((folder / "config.json").read_text())
    del content["data"]  # as where the text could not be read
    (tmp_path / "config.json").write_text(json.dumps(content))
    refused = run_program("experiments.generate", [f"--workdir={tmp_path}"], env=environment())
    assert "holds a run that has not begun to train" in refused.stderr
    refused = run_program("experiments.generate", [*arguments, "--top_p=2"], env=environment())
    assert "top_p is 2.0 but must be above 0 and at most 1" in refused.stderr


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--tokens=0"], "error: --tokens=0 must be an integer from 1 to 1073741824; change it\n"),
        (["--tokens=4294967296"], "error: --tokens=4294967296 must be an integer from 1 to 1073741824; change it\n"),
        (["--piece=-3"], "error: --piece=-3 must be an integer from 1 to 1048576; change it\n"),
        (["--seed=-1"], "error: seed is -1 but must be an integer of at least 0; set seed accordingly\n"),
        (["--prompt=\udcff"], "error: --prompt='\\udcff' is not text in UTF-8; convert it\n"),
    ],
)
def test_bad_flags_of_generation_are_one_sentence_and_nothing_is_written(trained, given, message):
    folder, _ = trained
    result = run_program("experiments.generate", [f"--workdir={folder}", "--prompt=To be", *given], env=environment())
    assert (result.returncode, result.stdout, result.stderr) == (2, "", message)

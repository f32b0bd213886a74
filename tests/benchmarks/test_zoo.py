"""The table of the zoo at toy size: its columns, its continuation from a file, a model that fails."""

import json

import pytest

from benchmarks import zoo
from tests.experiments.programs import write_elasticity


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_elasticity(folder)
    return folder


def test_steps_are_timed_and_training_times_them_again(tmp_path, data_dir, capsys, monkeypatch):
    output = tmp_path / "out" / "zoo.json"
    arguments = ["--smoke", "--models=transformer,linformer", "--steps=2", "--repeats=1", f"--output={output}"]
    assert zoo.main(arguments) == 0
    first = json.loads(output.read_text())["rows"]
    assert set(first) == {"transformer", "linformer"}
    assert all(row["step_ms"] > 0 and row["parameters"] > 1000 for row in first.values())
    assert "| model | parameters | batch | ms per step | ms per sample |" in capsys.readouterr().out
    monkeypatch.setattr(zoo, "measure_step", None)  # a measurement beside the training would fail
    assert zoo.main([*arguments, "--epochs=1", f"--data_dir={data_dir}", "--models=linformer"]) == 0
    second = json.loads(output.read_text())["rows"]
    assert second["transformer"] == first["transformer"]
    assert second["linformer"]["step_ms"] > 0
    assert second["linformer"]["step_ms"] != first["linformer"]["step_ms"]
    assert 0 < second["linformer"]["test_rel_l2"] < 10
    text = capsys.readouterr().out
    assert "test relative L2 after 1 epochs" in text
    assert "Predicting the training mean:" in text


def test_a_model_that_fails_is_a_row_with_its_reason(tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("RESOURCE_EXHAUSTED: out of memory\nmore")

    monkeypatch.setattr(zoo, "measure_step", fail)
    output = tmp_path / "zoo.json"
    assert zoo.main(["--smoke", "--models=flare,lno", f"--output={output}"]) == 0
    assert [row["error"] for row in json.loads(output.read_text())["rows"].values()] == [
        "RESOURCE_EXHAUSTED: out of memory"
    ] * 2
    assert capsys.readouterr().out.count("| RESOURCE_EXHAUSTED: out of memory |") == 2


def test_time_that_is_over(tmp_path, capsys):
    assert zoo.main(["--smoke", "--seconds=0", f"--output={tmp_path / 'zoo.json'}"]) == 0
    assert "call again with the same --output for the rest" in capsys.readouterr().out


def test_full_size_parameter_counts():
    """Those of the specification, for the configurations that the table shows."""
    for model_type, count in (("flare", 592_641), ("transolver", 713_665), ("gnot", 4_870_553), ("lno", 1_831_745)):
        assert zoo.parameter_count(zoo.recipe_config(model_type, smoke=False)) == count


def test_unknown_models_are_refused(capsys):
    with pytest.raises(SystemExit):
        zoo.main(["--models=flair"])
    assert "model 'flair' is not known" in capsys.readouterr().err

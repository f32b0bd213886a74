"""The folder of a run: what a failed start leaves does not block it, and what was trained is never replaced."""

import json
import os

import pytest
from ml_collections import ConfigDict

from configs.common import pde_config
from experiments import workdir
from experiments.errors import UserError


def _config(**train):
    config = pde_config("elasticity")
    config.train.update(train)
    return config


def _checkpoint(folder, step, seed=None):
    path = folder / "checkpoints" if seed is None else folder / f"seed_{seed}" / "checkpoints"
    (path / str(step)).mkdir(parents=True)


@pytest.mark.parametrize("steps", [(), (0,)])
def test_what_a_failed_start_leaves_is_replaced(tmp_path, steps):
    workdir.prepare(tmp_path, _config(batch_size=2), {"train.batch_size": 2})
    workdir.record(tmp_path, "model_options", {"grid_shape": [3, 4]})
    for step in steps:
        _checkpoint(tmp_path, step)
        _checkpoint(tmp_path, step, seed=3)
    workdir.prepare(tmp_path, _config(batch_size=4), {"train.batch_size": 4})
    content = workdir.read_config_file(tmp_path)
    assert content["config"]["train"]["batch_size"] == 4
    assert content["overrides"] == {"train.batch_size": "4"}
    assert workdir.recorded_model_options(tmp_path) is None
    assert not list(tmp_path.glob("**/0"))


@pytest.mark.parametrize("seed", [None, 3])
def test_what_was_trained_is_not(tmp_path, seed):
    workdir.prepare(tmp_path, _config(batch_size=2), {})
    _checkpoint(tmp_path, 0, seed)
    _checkpoint(tmp_path, 7, seed)
    with pytest.raises(UserError, match=r"train.batch_size was 2, now 4.*use another --workdir"):
        workdir.prepare(tmp_path, _config(batch_size=4), {})
    workdir.prepare(tmp_path, _config(batch_size=2), {})
    (tmp_path / "config.json").unlink()
    with pytest.raises(UserError, match=r"holds checkpoints but no config.json"):
        workdir.prepare(tmp_path, _config(batch_size=2), {})


def test_a_run_is_known_by_the_names_that_its_options_had_at_first(tmp_path):
    config = _config()
    config.data.points_per_step = 16
    workdir.prepare(tmp_path, config, {})
    _checkpoint(tmp_path, 7)
    content = json.loads((tmp_path / "config.json").read_text())
    content["config"]["task"]["points_per_step"] = content["config"]["data"].pop("points_per_step")
    (tmp_path / "config.json").write_text(json.dumps(content))
    workdir.prepare(tmp_path, config, {})
    assert workdir.load_run_config(tmp_path).data.points_per_step == 16
    assert "points_per_step" not in workdir.load_run_config(tmp_path).task
    assert workdir.computed_options(config)["task.points_per_step"] == 16
    config.data.points_per_step = 8
    with pytest.raises(UserError, match=r"data.points_per_step was 16, now 8"):
        workdir.prepare(tmp_path, config, {})


def test_a_run_is_known_without_the_options_that_its_model_has_got_later(tmp_path):
    config, other = _config(), _config()
    config.model = ConfigDict({"type": "flare", "num_blocks": 2, "remat": False})
    workdir.prepare(tmp_path, config, {})
    _checkpoint(tmp_path, 7)
    content = json.loads((tmp_path / "config.json").read_text())
    del content["config"]["model"]["remat"]
    (tmp_path / "config.json").write_text(json.dumps(content))
    workdir.prepare(tmp_path, config, {})
    assert workdir.computed_options(config) == workdir.computed_options(workdir.load_run_config(tmp_path))
    other.model = ConfigDict({"type": "flare", "num_blocks": 2, "remat": True})
    assert workdir.computed_options(other)["model.remat"] is True
    with pytest.raises(UserError, match=r"model.remat was absent, now True"):
        workdir.prepare(tmp_path, other, {})


def test_a_folder_is_held_by_one_process(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / ".config.123.tmp.json").write_text("by a killed run")
    with workdir.held(run):
        assert os.listdir(run) == []
        with (
            pytest.raises(ValueError, match=r"another process is training in --workdir=.*use another --workdir"),
            workdir.held(run),
        ):
            pass
    with workdir.held(run):
        pass


def test_a_full_disk_leaves_no_probe(tmp_path, monkeypatch):
    def full(**arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(workdir.tempfile, "TemporaryFile", full)
    with pytest.raises(UserError, match=r"cannot write .*No space left on device"), workdir.held(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "null",
        "{}",
        "{",
        '{"config": []}',
        {"config": {"train": {"seeds": [0]}}},
        {"train": {"seeds": 0}},
        {"train": {"seeds": ["a"]}},
        {"train": {"seeds": []}},
        {"mesh": 3},
    ],
)
def test_configurations_that_are_none(tmp_path, content):
    workdir.prepare(tmp_path, _config(), {})
    if isinstance(content, dict):
        stored = json.loads((tmp_path / "config.json").read_text())
        content = json.dumps(content if "config" in content else {"config": stored["config"] | content})
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"is not the configuration of a run .*check --workdir"):
        workdir.read_config_file(tmp_path)


@pytest.mark.parametrize("name", ["data", "model_options"])
def test_records_of_the_wrong_type(tmp_path, name):
    workdir.prepare(tmp_path, _config(), {})
    workdir.record(tmp_path, name, [1])
    with pytest.raises(UserError, match=f"its {name} is no object"):
        workdir.read_config_file(tmp_path)

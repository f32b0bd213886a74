"""TensorBoard and MLflow show what the log of a run holds, once, however often it was ended."""

import os
import struct

import pytest

from experiments.errors import UserError
from experiments.training import trackers
from experiments.training.records import MetricsLog
from tests.experiments.training.toy import toy_config

NAMES = ("tensorboard", "mlflow")


def _from_tensorboard(folder):
    """Return {(name, step): value} of the event files."""
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for path in folder.glob("events*"):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            found |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
            content = content[16 + length :]
    return found


def _from_mlflow(store):
    """Return {(name, step): value} and the options of the only run of the data base."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{store / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("elasticity").experiment_id])
    histories = [client.get_metric_history(run.info.run_id, name) for name in run.data.metrics]
    assert run.info.status == "FINISHED"
    points = [(metric.key, metric.step, metric.value) for history in histories for metric in history]
    assert len(points) == len({point[:2] for point in points})
    return {(name, step): value for name, step, value in points}, run.data.params


def test_both_show_the_log_of_a_run_that_was_ended_and_went_on(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run, config = tmp_path / "run", toy_config()
    run.mkdir()
    path = run / "metrics.jsonl"
    # A process that was killed: its trackers were never closed.
    first = MetricsLog(path, 0, trackers=trackers.open_trackers(NAMES, run, config, tmp_path))
    for step in (1, 2, 3):
        first.write("train", step, {"epoch": step, "loss": 4.0 - step})
    log = MetricsLog(path, 2, trackers=trackers.open_trackers(NAMES, run, config, tmp_path))
    log.write("train", 3, {"loss": float("nan")})
    log.write("eval", 4, {"test/error_ema": 0.25})
    log.write("timing", 4, {"step_ms": 2.0, "device": "cpu"})
    log.close()
    want = {
        ("train/epoch", 1): 1, ("train/epoch", 2): 2, ("train/loss", 1): 3.0, ("train/loss", 2): 2.0,
        ("test/error_ema", 4): 0.25, ("timing/step_ms", 4): 2.0,
    }  # fmt: skip
    assert _from_tensorboard(run / "tensorboard") == want
    points, options = _from_mlflow(tmp_path)
    assert points == want
    assert options["train.batch_size"] == "4"


def test_a_tracker_that_fails_is_reported_once_and_the_log_goes_on(tmp_path):
    class _Full:
        def write(self, event, step, values):
            raise OSError("no space")

        def close(self):
            raise AssertionError

    said = []
    log = MetricsLog(tmp_path / "metrics.jsonl", 0, said.append, [_Full()])
    log.write("train", 1, {})
    log.write("train", 2, {})
    log.close()
    assert said == ["warning: Full takes no more of this run (no space); start it again"]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_trackers_that_are_not_there(monkeypatch):
    with pytest.raises(UserError, match=r"--track has 'wandb'; choose from tensorboard, mlflow"):
        trackers.check_trackers(["wandb"])
    monkeypatch.setitem(trackers.TRACKERS, "mlflow", "nowhere_mlflow")
    with pytest.raises(UserError, match=r"--track=mlflow needs the package .*pip install 'flare_jax\[mlflow\]'"):
        trackers.check_trackers(["mlflow"])


def test_a_store_that_cannot_be_opened_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://x")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    with pytest.raises(UserError, match=r"--track=mlflow cannot be opened \(.*leave it out"):
        trackers.open_trackers(["mlflow"], tmp_path, toy_config(), tmp_path)
    # Seconds; with the default of 7 a server that does not answer is waited for minutes.
    assert int(os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]) <= 3

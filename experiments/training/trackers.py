"""TensorBoard and MLflow as further readers of a run's log: what they show is what metrics.jsonl holds.

They are written anew from the lines of the log whenever a run goes on, so that nothing is in them twice and nothing
missing, however the program before was ended.
"""

import importlib
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from experiments.errors import UserError
from runtime.files import remove
from runtime.locks import locked
from runtime.words import brief

# Name, package that is imported, extra of flare_jax that installs what it needs.
TRACKERS = {"tensorboard": "tensorboardX", "mlflow": "mlflow"}
_MOST_IN_A_BATCH = 100
_LONGEST_VALUE = 500


class Tracker(Protocol):
    """Takes the lines of a run's log."""

    def write(self, event: str, step: int, values: Mapping[str, Any]) -> None:
        """Take one line; what is no number is left out."""

    def close(self) -> None:
        """Write what is left."""


def check_trackers(names: Sequence[str]) -> None:
    """Raise UserError for a name that is unknown, or whose package is not installed."""
    for name in names:
        if name not in TRACKERS:
            raise UserError(f"--track has {name!r}; choose from {', '.join(TRACKERS)}, with commas between them")
        try:
            importlib.import_module(TRACKERS[name])
        except ImportError as error:
            raise UserError(
                f"--track={name} needs the package {TRACKERS[name]}; install it by pip install 'flare_jax[{name}]'"
            ) from error


def open_trackers(names: Sequence[str], workdir: Path, config: Any, store: Path) -> list[Tracker]:
    """Return empty trackers of the run in `workdir`; runs of MLflow share the data base in folder `store`.

    Raises UserError where one cannot be opened.
    """
    makers = {
        "tensorboard": lambda: _TensorBoard(workdir / "tensorboard"),
        "mlflow": lambda: _MLflow(store, config, workdir),
    }
    trackers = []
    for name in names:
        try:
            trackers.append(makers[name]())
        except Exception as error:  # of another library, whose own errors they are
            raise UserError(
                f"--track={name} cannot be opened ({brief(error)}); correct that or leave it out"
            ) from error
    return trackers


def feed(trackers: list[Tracker], line: Mapping[str, Any], say: Callable[[str], None]) -> None:
    """Give a line of the log to every tracker; one that fails is reported and taken off the list."""
    event, step = line["event"], line["step"]
    values = {name: value for name, value in line.items() if name not in ("event", "step")}
    for tracker in list(trackers):
        try:
            tracker.write(event, step, values)
        except Exception as error:
            say(f"warning: {type(tracker).__name__[1:]} takes no more of this run ({brief(error)}); start it again")
            trackers.remove(tracker)


class _TensorBoard:
    def __init__(self, folder: Path) -> None:
        from tensorboardX import SummaryWriter

        remove(folder)
        self._writer = SummaryWriter(logdir=str(folder), flush_secs=10)

    def write(self, event: str, step: int, values: Mapping[str, Any]) -> None:
        for name, value in _numbers(event, values).items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _MLflow:
    def __init__(self, store: Path, config: Any, workdir: Path) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # a run tells nobody of itself
        # A server that does not answer is asked for seconds, not for many minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
        for package, level in (("mlflow", logging.WARNING), ("alembic", logging.WARNING), ("urllib3", logging.ERROR)):
            logging.getLogger(package).setLevel(level)
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        address = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{store.absolute() / 'mlflow.db'}"
        # Processes that make the tables at the same time would meet each other's.
        with locked(store, None):
            self._client = MlflowClient(tracking_uri=address)
            found = self._client.get_experiment_by_name(config.name)
        identity = found.experiment_id if found else self._client.create_experiment(config.name)
        place = str(workdir.absolute())
        for run in self._client.search_runs([identity], f"tags.workdir = '{place}'"):
            self._client.delete_run(run.info.run_id)
        self._run = self._client.create_run(identity, run_name=workdir.name, tags={"workdir": place}).info.run_id
        params = [Param(name, str(value)[:_LONGEST_VALUE]) for name, value in _flat(config.to_dict()).items()]
        for first in range(0, len(params), _MOST_IN_A_BATCH):
            self._client.log_batch(self._run, params=params[first : first + _MOST_IN_A_BATCH])

    def write(self, event: str, step: int, values: Mapping[str, Any]) -> None:
        from mlflow.entities import Metric

        now = int(1e3 * time.time())
        metrics = [Metric(name, value, now, step) for name, value in _numbers(event, values).items()]
        self._client.log_batch(self._run, metrics=metrics)

    def close(self) -> None:
        self._client.set_terminated(self._run)


def _numbers(event: str, values: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a line, those of steps and costs under the name of their event."""
    return {
        name if "/" in name else f"{event}/{name}": float(value)
        for name, value in values.items()
        if isinstance(value, int | float)
    }


def _flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in options.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat

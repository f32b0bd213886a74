"""The problems on points, as tasks of the training loop; which one a data set poses is its `kind`."""

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from jax import Array

from data_pipeline.dataset import PDEDataset
from experiments.errors import UserError
from experiments.training.task import Task
from experiments.training.tasks.autoregressive import autoregressive_task
from experiments.training.tasks.layer_series import layer_series_task
from experiments.training.tasks.mesh_series import mesh_series_task
from experiments.training.tasks.regression import regression_task
from experiments.training.tasks.time_conditioned import time_conditioned_task

_TASKS: Mapping[str, Callable[..., Task]] = {
    "steady": regression_task,
    "autoregressive": autoregressive_task,
    "time_conditioned": time_conditioned_task,
    "mesh_series": mesh_series_task,
    "layer_series": layer_series_task,
}


def task_options(config: Any) -> dict[str, Any]:
    """Return what a configuration says of the task: section `task`, and how many points a step takes of the data."""
    points = {"points_per_step": config.data.points_per_step} if "points_per_step" in config.data else {}
    return {**config.get("task", {}), **points}


def build_task(
    dataset: PDEDataset,
    apply: Callable[..., Array],
    points_multiple: int,
    call_inputs: Collection[str],
    options: Mapping[str, Any],
) -> Task:
    """Return the task that `dataset` poses to `apply(params, x, mask, ...)`, with `options`, those of `task_options`.

    Points are padded to a multiple of `points_multiple`; `call_inputs` names the further arguments that `apply` takes.
    Raises UserError for options that do not fit the data.
    """
    make = _TASKS[dataset.kind]
    known = inspect.signature(make).parameters
    unused = next((name for name, value in options.items() if name not in known and value), None)
    if unused is not None:
        section = "data" if unused == "points_per_step" else "task"
        raise UserError(f"{section}.{unused}={options[unused]} does nothing for this data; leave it out")
    chosen = {name: value for name, value in options.items() if name in known}
    return make(dataset, apply, points_multiple, call_inputs, **chosen)

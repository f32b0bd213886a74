"""Marches over the layers of parts with a trained run, from the state after their first group of layers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data_pipeline.additive.case import SeriesCase
from data_pipeline.custom.readers import Reference
from data_pipeline.dataset import PDEDataset, Source
from data_pipeline.files import matching
from data_pipeline.pde.am_series import read_part, series_dataset
from data_pipeline.registry import DATASETS
from experiments import program, workdir
from experiments.additive import paraview
from experiments.errors import UserError
from experiments.pdebench import models
from experiments.training.task import Task
from experiments.training.tasks import build_task
from experiments.training.tasks.inputs import input_channels
from flare_jax import params as model_params
from flare_jax.convert.runs import read_run
from flare_jax.convert.trained import first_seed_folder
from runtime.files import replacing

_SUFFIXES = (".pvd", ".npz")
March = Callable[[dict[str, Any]], np.ndarray]


def is_of_series(folder: Path) -> bool:
    """Return whether a folder holds a run on printed parts layer by layer."""
    if not (folder / workdir.CONFIG_FILE).is_file():
        return False
    config = workdir.load_run_config(folder)
    name = config.data.get("name") if program.program_of(config) == "pdebench" else None
    return name in DATASETS and DATASETS[name].kind == "layer_series"


def march_parts(
    folder: Path, source: Path, target: Path, *, step: int | None, seed: int | None, weights: str | None
) -> None:
    """March the parts of a file or a folder, write every step, and say the errors where the true states are there.

    Raises UserError and DataError for files that are no series of a part with its first state.
    """
    config = workdir.load_run_config(folder)
    paths = _inputs(source)
    places = {path: _place(path, target, alone=len(paths) == 1) for path in paths}
    taken = next((place for path, place in places.items() if place == path), None)
    if taken is not None:
        raise UserError(f"--output={target} would replace the input {taken}; choose another place")
    for path in paths:
        case = read_part(path, config.data.drop_plate)
        dataset = _dataset(case, config, path)
        task, params = _model(dataset, config, folder, step, seed, weights)
        batch = dict(task.tests["test"])
        with program.matmul_precision(config):
            prediction = jax.jit(lambda params, batch, task=task: task.predict(params, batch, None))(params, batch)
        _write(places[path], case, dataset, np.asarray(prediction[0, : len(case.pos)]))
        _say_errors(task, prediction, batch, path, places[path])


def _inputs(source: Path) -> list[Path]:
    if not source.exists():
        raise UserError(f"--input={source} does not exist; check the path")
    paths = matching(source, "*.npz") if source.is_dir() else [source]
    if not paths or any(path.suffix.lower() != ".npz" for path in paths):
        raise UserError(
            f"--input={source} has no state after the first group of layers, from which this run marches; give the "
            ".npz file of a series, as `python -m data_pipeline.additive` writes it, or a folder of these"
        )
    return paths


def _place(path: Path, target: Path, alone: bool) -> Path:
    if alone and target.suffix:
        if target.suffix.lower() not in _SUFFIXES:
            raise UserError(f"--output={target} cannot hold a series; choose a name that ends in .pvd or .npz")
        return target
    if target.suffix:
        raise UserError(f"--output={target} is one file for several parts; name a folder")
    return target / f"{path.stem}.pvd"


def _dataset(case: SeriesCase, config: Any, path: Path) -> PDEDataset:
    source = Source("own files", str(path))
    hanging = config.data.hanging_edges if models.takes_edges(config.model.type) else None
    return series_dataset(
        {"train": [case], "test": [case]},
        config.data.fields,
        source,
        hanging_edges=hanging,
        distances=config.data.distance_features,
    )


def _model(
    dataset: PDEDataset, config: Any, folder: Path, step: int | None, seed: int | None, weights: str | None
) -> tuple[Task, dict[str, Any]]:
    """Return the task that the run was trained on, for these parts, and the weights of its model."""
    seeds = tuple(config.train.seeds)
    if seed is not None and seed not in seeds:
        raise UserError(f"--seed={seed} is not among the seeds {seeds} of the run; choose one of them")
    place = first_seed_folder(folder) if seed is None or len(seeds) == 1 else folder / f"seed_{seed}"
    run = read_run(place, step)
    inputs = models.call_inputs(config.model.type)
    options = workdir.recorded_model_options(folder)
    model = models.build(config, options, input_channels(dataset, inputs), dataset.c_out, seeds[0])
    graphdef, _ = model_params.split(model)
    first = min(config.task.first, len(dataset.times) - 1)
    task = build_task(dataset, model_params.apply_fn(graphdef), 1, inputs, {**config.task, "first": first})
    return task, jax.device_put(dict(run.weights[run.choose(weights, folder)]))


def _write(place: Path, case: SeriesCase, dataset: PDEDataset, prediction: np.ndarray) -> None:
    """Write truth, prediction and error at every step [N, T, C]."""
    place.parent.mkdir(parents=True, exist_ok=True)
    split = dataset.tests["test"]
    truth = split.y[0, : len(case.pos)]
    if place.suffix.lower() == ".npz":
        fields = dataset.channels.split(np.moveaxis(prediction, 1, 0))
        predicted = {f"{name}_predicted": values[..., 0].astype(np.float32) for name, values in fields.items()}
        with replacing(place) as temporary:
            np.savez_compressed(temporary, **case.arrays(), **predicted)
        return
    there = split.layer[0, : len(case.pos)] <= np.arange(len(case.zmax))[:, None]
    arrays = [paraview.point_data(dataset, truth[:, k], prediction[:, k]) for k in range(len(case.zmax))]
    paraview.write_series(place, case.pos, case.elems, there, arrays)


def _say_errors(task: Task, prediction: jax.Array, batch: dict[str, jax.Array], path: Path, place: Path) -> None:
    found = {name: float(metric(prediction, batch)[0]) for name, metric in task.metrics.items()}
    print(
        f"{Reference(path).name}: {batch['y'].shape[2]} steps in {place}; relative L2 error {found['rel_l2']:.3e}, at "
        f"the last step {found['rel_l2_last']:.3e}, R² {found['r2']:.4f}",
        flush=True,
    )

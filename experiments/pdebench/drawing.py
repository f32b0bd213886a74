"""The figures of a finished run: learning curve, test cases, and for problems in time their errors and animations."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.dataset import PDEDataset
from experiments import figures, frame_figures
from experiments.training import hosts
from experiments.training.evaluate import PerCase
from experiments.training.packing import Params
from experiments.training.records import read_log
from experiments.training.setup import Setup
from experiments.training.task import Task
from experiments.training.tasks.baselines import BASELINES, baseline_of
from experiments.training.tasks.errors import ERROR_WORDS


def draw_learning_curve(
    dataset: PDEDataset, task: Task, summary: Mapping[str, Any], folder: Path, figures_folder: Path
) -> None:
    """Draw the learning curve of the run in `folder`, if it has a log of its training."""
    metric, split = task.headline, task.selection
    log = read_log(folder / "metrics.jsonl", hosts.say)
    if hosts.is_main() and any(line["event"] == "train" for line in log):
        name = baseline_of(dataset)
        curve = figures.learning_curve(
            log, metric, summary[f"{split}/{metric}_{name}"], BASELINES[name], ERROR_WORDS[metric], split
        )
        figures.save(curve, figures_folder / "learning_curve.png")


def draw_cases(
    setup: Setup, params: Params, dataset: PDEDataset, name: str, per_case: PerCase, figures_folder: Path
) -> None:
    """Draw the best, the median and the worst sample of test `name`; of frames the last, and the median animated."""
    split, errors = dataset.tests[name], per_case[setup.task.headline]
    arrays = setup.mesh.place_dataset(setup.task.tests[name])
    for label, case in figures.chosen_cases(errors).items():
        prediction = setup.predict(params, arrays, case)[: split.x.shape[1]]  # on all processes: they share the work
        if not hosts.is_main():
            continue
        title = (
            f"{name} {dataset.case_name(name, case)} ({label}): {ERROR_WORDS[setup.task.headline]} {errors[case]:.2e}"
        )
        file = figures_folder / f"{name}_{label}.png"
        points = figures.visible(np.flatnonzero(split.real(case)))
        if dataset.kind == "layer_series":  # the part as it is when the last layer is done
            last = int(split.steps[case]) - 1
            places = dataset.positions(split, case)[points]
            _draw_fields(dataset, title, places, split.y[case][points, last], prediction[points, last], file)
            continue
        places, truth, prediction = dataset.positions(split, case)[points], split.y[case][points], prediction[points]
        if truth.ndim == 2:
            _draw_fields(dataset, title, places, truth, prediction, file)
            continue
        truth, prediction = (
            dataset.in_units(field)[..., dataset.shown_channel]
            for field in (truth[:, -prediction.shape[1] :], prediction)
        )
        times = dataset.times[-truth.shape[1] :]
        last = f"{title}, t = {times[-1]:g}"
        figures.save(figures.case_figure(last, places, truth[:, -1], prediction[:, -1], dataset.target_name), file)
        if label == "median":
            frame_figures.save_animation(
                figures_folder / f"{name}_{label}.gif", title, places, truth, prediction, times, dataset.target_name
            )


def _draw_fields(
    dataset: PDEDataset, title: str, places: np.ndarray, truth: np.ndarray, prediction: np.ndarray, file: Path
) -> None:
    """Draw every field [N, C] of a case, the names of several in the names of their files."""
    true, predicted = dataset.shown_fields(truth), dataset.shown_fields(prediction)
    for field, values in true.items():
        ending = "_" + re.sub(r"\W+", "_", field).strip("_") if len(true) > 1 else ""
        figure = figures.case_figure(title, places, values, predicted[field], field)
        figures.save(figure, file.with_stem(file.stem + ending))

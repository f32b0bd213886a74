"""The figures of a finished run: learning curve, test cases, and for problems in time their errors and animations."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.dataset import PDEDataset, Split
from experiments import figures, frame_figures
from experiments.training import hosts
from experiments.training.evaluate import PerCase, make_predictor
from experiments.training.loop import Setup
from experiments.training.packing import Params
from experiments.training.records import read_log
from experiments.training.tasks.baselines import BASELINES, baseline_of


def draw_learning_curve(
    dataset: PDEDataset, metric: str, summary: Mapping[str, Any], folder: Path, figures_folder: Path
) -> None:
    """Draw the learning curve of the run in `folder`, if it has a log of its training."""
    log = read_log(folder / "metrics.jsonl") if (folder / "metrics.jsonl").exists() else []
    if hosts.is_main() and any(line["event"] == "train" for line in log):
        name = baseline_of(dataset)
        curve = figures.learning_curve(log, metric, summary[f"test/{metric}_{name}"], BASELINES[name])
        figures.save(curve, figures_folder / "learning_curve.png")


def draw_cases(
    setup: Setup, params: Params, dataset: PDEDataset, name: str, per_case: PerCase, figures_folder: Path
) -> None:
    """Draw the best, the median and the worst sample of test `name`; of frames the last, and the median animated."""
    split, errors = dataset.tests[name], per_case[setup.task.headline]
    predict = make_predictor(setup.task, setup.mesh)
    arrays = setup.mesh.place_dataset(setup.task.tests[name])
    for label, case in figures.chosen_cases(errors).items():
        prediction = predict(params, arrays, case)[: split.x.shape[1]]  # on all processes: they share the work
        if not hosts.is_main():
            continue
        places, truth, prediction = _shown(dataset, split, case, prediction)
        title = f"{name} case {case} ({label}): relative L2 {errors[case]:.2e}"
        file = figures_folder / f"{name}_{label}.png"
        if truth.ndim == 1:
            figures.save(figures.case_figure(title, places, truth, prediction, dataset.target_name), file)
            continue
        times = dataset.times[-truth.shape[1] :]
        last = f"{title}, t = {times[-1]:g}"
        figures.save(figures.case_figure(last, places, truth[:, -1], prediction[:, -1], dataset.target_name), file)
        if label == "median":
            frame_figures.save_animation(
                figures_folder / f"{name}_{label}.gif", title, places, truth, prediction, times, dataset.target_name
            )


def _shown(
    dataset: PDEDataset, split: Split, case: int, prediction: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return places, truth and prediction [N] or [N, T] of the shown channel, at most as many points as can be seen."""
    points = figures.visible(np.flatnonzero(split.real(case)))
    truth = split.y[case]
    if truth.ndim == 3:
        truth = truth[:, -prediction.shape[1] :]
    channel = dataset.shown_channel
    return dataset.positions(split, case)[points], truth[points][..., channel], prediction[points][..., channel]

"""What a run on printed parts leaves beside its report: tables, medians, figures, files for ParaView."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.dataset import PDEDataset, Split
from data_pipeline.errors import DataError
from experiments import figures
from experiments.additive import paraview, tables
from experiments.additive.figures import DrawnPart, box_plot, parts_figure, step_figure
from experiments.training import hosts
from experiments.training.evaluate import PerCase
from experiments.training.packing import Params
from experiments.training.setup import Setup

# Parts of each split that are written for ParaView, from the best to the worst; those of series have many files each.
MOST_PARTS, MOST_SERIES = 20, 5
_WORST = 1  # parts of a picture, beside the median one
_PICTURE_DPI = 90  # small enough for a page
_ROUNDING = 1e-4  # mm


def write_report(
    setup: Setup,
    params: Params,
    dataset: PDEDataset,
    per_split: Mapping[str, PerCase],
    frames: Mapping[str, PerCase],
    folder: Path,
    run: str,
    draw: bool,
) -> None:
    """Write tables and medians into `folder`, and with `draw` figures and files for ParaView, named after the `run`.

    `per_split` has metrics per part [S], `frames` those per part and step [S, T] of series.
    """
    splits = {**dataset.tests, "train": dataset.train}
    if hosts.is_main():
        _write_tables(dataset, splits, per_split, frames, folder)
        if draw:
            _draw(per_split, frames, folder / "figures")
    if not draw:
        return
    arrays = {**setup.task.tests, "train": setup.task.train}
    for name, split in splits.items():
        placed = setup.mesh.place_dataset(arrays[name])
        most = MOST_SERIES if dataset.kind == "layer_series" else MOST_PARTS
        # Predictions are made on all processes, which share the work; worst parts come first.
        chosen = spread_over_errors(per_split[name]["rel_l2"], most)
        shown = [(case, setup.predict(params, placed, case)[: split.x.shape[1]]) for case in chosen]
        if hosts.is_main():
            pictured = dict([*shown[:_WORST], shown[len(shown) // 2]])
            _draw_parts(dataset, name, split, pictured, per_split[name], folder / "figures")
            _write_meshes(dataset, name, split, shown, folder / "paraview", run)


def spread_over_errors(errors: np.ndarray, most: int) -> list[int]:
    """Return at most `most` cases, from the worst to the best, evenly spaced in their order."""
    order = np.argsort(np.where(np.isnan(errors), -np.inf, -errors), kind="stable")
    order = np.concatenate([order[np.isfinite(errors[order])], order[~np.isfinite(errors[order])]])
    return [int(order[i]) for i in np.unique(np.linspace(0, len(order) - 1, min(most, len(order))).round().astype(int))]


def _write_tables(
    dataset: PDEDataset,
    splits: Mapping[str, Split],
    per_split: Mapping[str, PerCase],
    frames: Mapping[str, PerCase],
    folder: Path,
) -> None:
    entries = {}
    for name, split in splits.items():
        tables.write_cases(folder / f"{name}_stats.txt", dataset.sample_names[name], per_split[name])
        counts = np.full(len(split), split.x.shape[1]) if split.mask is None else split.mask.sum(axis=1)
        entries[name] = counts * (1 if split.steps is None else split.steps)
    for name, per_step in frames.items():
        tables.write_steps(folder / f"l2_stats_{name}.txt", dataset.sample_names[name], per_step["mse"])
        tables.write_steps(folder / f"r2_stats_{name}.txt", dataset.sample_names[name], per_step["r2"])
    medians = tables.write_medians(folder / "r2_medians.json", per_split, entries)
    for name, content in medians.items():
        hosts.say(
            f"{name}: median R² {content['r2']['median']:.3f}, relative L2 error of all parts together "
            f"{content['rel_l2_pooled']:.3e}"
        )


def _draw(per_split: Mapping[str, PerCase], frames: Mapping[str, PerCase], folder: Path) -> None:
    ordered = {name: per_split[name]["r2"] for name in sorted(per_split, key=lambda name: name != "train")}
    figures.save(box_plot(ordered), folder / "r2_boxplot.png")
    for name, per_step in frames.items():
        if not np.isfinite(per_step["r2"]).any():
            continue
        figures.save(
            step_figure(per_step["r2"], "R²", (0, 1), f"{name}: R² over the steps"), folder / f"r2_plot_{name}.png"
        )
        root = np.sqrt(per_step["mse"])
        title = f"{name}: root mean squared error, mean {np.nanmean(root):.2e}"
        predicted = root[:, np.isfinite(root).any(axis=0)]
        highest = max(0.1, 1.05 * float(np.nanmedian(predicted, axis=0).max()))
        figures.save(step_figure(root, "root mean squared error", (0, highest), title), folder / f"l2_plot_{name}.png")


def _draw_parts(
    dataset: PDEDataset, name: str, split: Split, shown: Mapping[int, np.ndarray], per_case: PerCase, folder: Path
) -> None:
    """Draw the first field of parts from their predictions, series at their last step, without their plate."""
    drawn = []
    for case, prediction in shown.items():
        points, elements = dataset.mesh_of(name, case)
        truth, prediction = split.y[case][: len(points)], prediction[: len(points)]
        if split.steps is not None:
            truth, prediction = (series[:, split.steps[case] - 1] for series in (truth, prediction))
        field, values = next(iter(dataset.shown_fields(truth).items()))
        title = f"{dataset.case_name(name, case)}: relative L2 error {per_case['rel_l2'][case]:.2e}"
        used, number = np.unique(elements[(points[elements][..., 2] >= -_ROUNDING).all(axis=1)], return_inverse=True)
        drawn.append(
            DrawnPart(
                title,
                points[used],
                number.reshape(-1, 8),
                values[used],
                dataset.shown_fields(prediction)[field][used],
            )
        )
    figures.save(parts_figure(drawn, field), folder / f"{name}_parts.png", dpi=_PICTURE_DPI)


def _write_meshes(
    dataset: PDEDataset, name: str, split: Split, shown: list[tuple[int, np.ndarray]], folder: Path, run: str
) -> None:
    """Write parts for ParaView; without pyvista say that they are not written."""
    folder.mkdir(exist_ok=True)
    try:
        for case, prediction in shown:
            stem = f"{run}-{name}{case:04d}-{dataset.case_name(name, case)}"
            points, elements = dataset.mesh_of(name, case)
            arrays = _arrays(dataset, split, case, prediction, len(points))
            if split.steps is None:
                paraview.write_part(
                    folder / f"{stem}.vtu", points, elements, {**arrays[0], "mask": np.ones(len(points), bool)}
                )
            else:
                there = split.layer[case][: len(points)] <= np.arange(len(arrays))[:, None]
                paraview.write_series(folder / f"{stem}.pvd", points, elements, there, arrays)
    except DataError as error:
        hosts.say(f"warning: {name}: no files for ParaView: {error}")


def _arrays(dataset: PDEDataset, split: Split, case: int, prediction: np.ndarray, count: int) -> list[dict[str, Any]]:
    """Return what is written at the nodes of a part, of series one dictionary for every step."""
    truth, prediction = split.y[case][:count], prediction[:count]
    if split.steps is None:
        return [paraview.point_data(dataset, truth, prediction)]
    steps = []
    for step in range(int(split.steps[case])):
        fields = paraview.point_data(dataset, truth[:, step], prediction[:, step])
        source = prediction[:, max(0, step - 1)]
        steps.append({**fields, "source_normalized": source[:, 0] if source.shape[1] == 1 else source})
    return steps

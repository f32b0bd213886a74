"""The energy of predictions and truth by wave number, part of `--mode=analyze` for data on structured grids."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from data_pipeline.dataset import PDEDataset
from data_pipeline.split import Split
from experiments import figures
from experiments.training import hosts
from experiments.training.setup import Setup
from experiments.training.state import TrainState
from flare_jax.analysis import radial_energy, whole_shells
from flare_jax.analysis.figures import energy_figure
from runtime.json_files import write_json

_MOST_PANELS = 6


def grid_of(dataset: PDEDataset, split: Split) -> tuple[int, ...] | None:
    """Return the grid of a split, that of a square data set at another resolution too; None for point clouds."""
    shape, points = dataset.grid_shape, split.x.shape[1]
    if shape is None or np.prod(shape) == points:
        return shape
    side = round(points ** (1 / len(shape)))
    return (side,) * len(shape) if len(set(shape)) == 1 and side ** len(shape) == points else None


def write_energy(
    setup: Setup, state: TrainState, config: ConfigDict, dataset: PDEDataset, folder: Path
) -> dict[str, Any]:
    """Write `analysis/<test>_energy.json` and a figure of every test set on a grid; return the contents by test.

    Each has, by field and wave number, the energy of truth, prediction and error with the weights of the headline
    metric, means over cases and predicted frames, in the units of the data.
    """
    output = folder / "analysis"
    output.mkdir(exist_ok=True)
    params = setup.weights(state)[config.eval.weights]
    contents = {}
    for name, split in dataset.tests.items():
        grid = grid_of(dataset, split)
        if grid is None:
            hosts.say(f"{name}: its {split.x.shape[1]} points are no grid, so that they have no energy spectrum")
            continue
        energies = _energies(setup, params, setup.task.tests[name], dataset, grid, config.eval.batch_size)
        fields = _field_names(dataset)
        contents[name] = {
            "weights": config.eval.weights,
            "step": int(state.step),
            "grid": list(grid),
            "fields": fields,
            **{kind: values.T.tolist() for kind, values in energies.items()},
        }
        if hosts.is_main():
            write_json(output / f"{name}_energy.json", contents[name])
            shown = {kind: values[: whole_shells(grid), :_MOST_PANELS] for kind, values in energies.items()}
            figure = energy_figure(shown, fields[:_MOST_PANELS], f"{dataset.name}, {name}: energy by wave number")
            figures.save(figure, output / f"{name}_energy.png")
        hosts.say(f"{name}: {_describe(energies)}")
    return contents


def _energies(
    setup: Setup,
    params: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    dataset: PDEDataset,
    grid: tuple[int, ...],
    size: int,
) -> dict[str, np.ndarray]:
    """Return the energies [K, C] of truth, prediction and error, means over cases and frames."""
    predict = jax.jit(lambda params, batch: setup.task.predict(params, batch, None))
    count, points = len(arrays["x"]), int(np.prod(grid))
    sums: dict[str, np.ndarray] = {}
    for start in range(0, count, size):
        batch = {name: np.asarray(value[start : start + size]) for name, value in arrays.items()}
        prediction = np.asarray(predict(params, batch))[:, :points]
        truth = batch["y"][:, :points]
        if truth.ndim == 4:
            truth = truth[:, :, -prediction.shape[2] :]
        prediction, truth = (_on_grid(dataset.in_units(field), grid) for field in (prediction, truth))
        frames = len(truth) // len(batch["y"])
        for kind, fields in (("truth", truth), ("prediction", prediction), ("error", prediction - truth)):
            sums[kind] = sums.get(kind, 0.0) + radial_energy(fields).sum(0) / frames
    return {kind: total / count for kind, total in sums.items()}


def _on_grid(fields: np.ndarray, grid: tuple[int, ...]) -> np.ndarray:
    """Return fields [B, N, C] or frames [B, N, T, C] as [B or B · T, *grid, C]."""
    if fields.ndim == 4:
        fields = np.moveaxis(fields, 2, 1).reshape(-1, fields.shape[1], fields.shape[3])
    return fields.reshape(len(fields), *grid, fields.shape[-1])


def _field_names(dataset: PDEDataset) -> list[str]:
    """Return a name for every predicted channel."""
    if dataset.channels is None:
        own = dataset.target_name
        return [own] if dataset.c_out == 1 else [f"channel {number}" for number in range(dataset.c_out)]
    counts = dataset.channels.targets.items()
    return [name if count == 1 else f"{name} {number}" for name, count in counts for number in range(count)]


def _describe(energies: Mapping[str, np.ndarray]) -> str:
    """Return at which wave number the error has as much energy as the truth, first, in any field."""
    over = np.flatnonzero((energies["error"] >= energies["truth"]).any(-1)[1:]) + 1
    if not len(over):
        return "the energy of the error is below that of the truth at all wave numbers"
    return f"the error has the energy of the truth from wave number {over[0]} on"

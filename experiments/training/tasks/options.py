"""The options of config section `task`, which depend on the data set."""

from typing import Any

_DRIVAERML = "drivaerml_"
_OPTIONS: dict[str, dict[str, Any]] = {
    "darcy": {"gradient_weight": 0.1},  # of the gradient term of the loss
    "lpbf": {"original_metric": False},  # report the original's expression too
    # What enters the window in training: truth (teacher forcing), pushforward or prediction. Noise in normalised units.
    "navier_stokes": {"feed": "truth", "noise": 0.0},
    "plasticity": {"times_per_step": 0},  # 0: one step on each time | k: one step on k random times
    # Standard deviation of the training noise on velocities, in data units, as in MeshGraphNets.
    "cylinder_flow": {"noise": 0.02},
    "airfoil_dynamic": {"noise": 10.0},
}


def task_options(dataset: str) -> dict[str, Any]:
    """Return the options of the task on a data set, with their defaults."""
    if dataset.startswith(_DRIVAERML):
        return {"points_per_step": 0}  # train on so many random points of each batch; 0: all
    return dict(_OPTIONS.get(dataset, {}))

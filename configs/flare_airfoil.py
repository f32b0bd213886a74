"""FLARE on the steady transonic airfoil, 221 × 51 points: the published configuration (500 epochs, batch 2, float32).

    python -m experiments.pdebench --config=configs/flare_airfoil.py
    python -m experiments.pdebench --config=configs/flare_airfoil.py:smoke     (minutes on two CPU cores)

Published test relative L2: 4.28e-3.
"""

from ml_collections import ConfigDict

from configs import pde

EXPECTED = None  # not measured


def get_config(argument: str | None = None) -> ConfigDict:
    """Return the configuration; `smoke` is a small network on few samples."""
    return pde.named(argument, "flare_airfoil", model="flare", data="airfoil_steady")

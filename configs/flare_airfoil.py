"""FLARE on the steady transonic airfoil, 221 × 51 points: the published configuration (500 epochs, batch 2, float32).

    python -m experiments.pdebench --config=configs/flare_airfoil.py
    python -m experiments.pdebench --config=configs/flare_airfoil.py:smoke     (minutes on two CPU cores)

Published test relative L2: 4.28e-3.
"""

from ml_collections import ConfigDict

from configs import pde
from configs.common import parse_argument
from configs.smoke import shrink

EXPECTED = None  # not measured


def get_config(argument: str | None = None) -> ConfigDict:
    """Return the configuration; `smoke` is a small network on few generated samples."""
    variant = parse_argument(argument)
    config = pde.get_config("model=flare,data=airfoil_steady")
    config.name = "flare_airfoil"
    config.data.num_generate = 1200
    if variant == "smoke":
        shrink(config, n_train=9, n_test=3, epochs=40, batch_size=1, resolution=11)
    return config

"""FLARE++ on the airfoil: the published configuration (1 291 329 parameters, 500 epochs, batch 2, float32).

    python -m experiments.pdebench --config=configs/flarepp_airfoil.py
    python -m experiments.pdebench --config=configs/flarepp_airfoil.py:smoke     (minutes on two CPU cores)

Published test relative L2: 5.0e-3. FLARE with this routing and its own deep projections is
--config=configs/pde.py:model=flare_pp,data=airfoil_steady.
"""

from ml_collections import ConfigDict

from configs import pde
from configs.common import parse_argument
from configs.smoke import shrink

EXPECTED = None  # not measured


def get_config(argument: str | None = None) -> ConfigDict:
    """Return the configuration; `smoke` is a small network on few generated samples."""
    variant = parse_argument(argument)
    config = pde.get_config("model=flarepp,data=airfoil_steady")
    config.name = "flarepp_airfoil"
    if variant == "smoke":
        shrink(config, n_train=9, n_test=3, epochs=40, batch_size=1, resolution=11)
    return config

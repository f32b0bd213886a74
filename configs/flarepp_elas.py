"""FLARE++ on elasticity: the published configuration (1 291 329 parameters, 500 epochs, batch 2, float32).

    python -m experiments.pdebench --config=configs/flarepp_elas.py
    python -m experiments.pdebench --config=configs/flarepp_elas.py:smoke     (minutes on two CPU cores)

Published test relative L2: 3.9e-3. FLARE with this routing and its own deep projections is
--config=configs/pde.py:model=flare_pp,data=elasticity.
"""

from ml_collections import ConfigDict

from configs import pde
from configs.common import parse_argument
from configs.smoke import shrink

EXPECTED = None  # not measured


def get_config(argument: str | None = None) -> ConfigDict:
    """Return the configuration; `smoke` is a small network on few generated samples."""
    variant = parse_argument(argument)
    config = pde.get_config("model=flarepp,data=elasticity")
    config.name = "flarepp_elas"
    if variant == "smoke":
        shrink(config, n_train=192, n_test=40, epochs=40)
    return config

"""FLARE++ on the airfoil: the published configuration (1 291 329 parameters, 500 epochs, batch 2, float32).

    python -m experiments.pdebench --config=configs/flarepp_airfoil.py
    python -m experiments.pdebench --config=configs/flarepp_airfoil.py:smoke     (minutes on two CPU cores)

Published test relative L2: 5.0e-3. FLARE with this routing and its own deep projections is
--config=configs/pde.py:model=flare_pp,data=airfoil_steady.
"""

from ml_collections import ConfigDict

from configs import pde

EXPECTED = None  # not measured


def get_config(argument: str | None = None) -> ConfigDict:
    """Return the configuration; `smoke` is a small network on few samples."""
    return pde.named(argument, "flarepp_airfoil", model="flarepp", data="airfoil_steady")

"""FLARE++ on elasticity: the published configuration (1 291 329 parameters, 500 epochs, batch 2, float32).

    python -m experiments.pdebench --config=configs/flarepp_elas.py
    python -m experiments.pdebench --config=configs/flarepp_elas.py:smoke     (minutes on two CPU cores)

Published test relative L2: 3.9e-3. FLARE with this routing and its own deep projections is
--config=configs/pde.py:model=flare_pp,data=elasticity.
"""

from ml_collections import ConfigDict

from configs import pde
from configs.expected import Expected

EXPECTED = Expected(step_ms=3.081, device="H200")


def get_config(argument: str | None = None) -> ConfigDict:
    """Return the configuration; `smoke` is a small network on few samples."""
    return pde.named(argument, "flarepp_elas", model="flarepp", data="elasticity")

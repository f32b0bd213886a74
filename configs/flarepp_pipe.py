"""FLARE++ on the pipe: the published configuration (397 713 parameters, 500 epochs, batch 2, float32).

    python -m experiments.pdebench --config=configs/flarepp_pipe.py
    python -m experiments.pdebench --config=configs/flarepp_pipe.py:smoke     (minutes on two CPU cores)

Published test relative L2: 3.5e-3. FLARE with this routing and its own deep projections is
--config=configs/pde.py:model=flare_pp,data=pipe.
"""

from ml_collections import ConfigDict

from configs import pde

EXPECTED = None  # not measured


def get_config(argument: str | None = None) -> ConfigDict:
    """Return the configuration; `smoke` is a small network on few samples."""
    return pde.named(argument, "flarepp_pipe", model="flarepp", data="pipe")

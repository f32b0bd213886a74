"""FLARE++ on the pipe: the published configuration (397 713 parameters, 500 epochs, batch 2, float32).

    python -m experiments.pdebench --config=configs/flarepp_pipe.py
    python -m experiments.pdebench --config=configs/flarepp_pipe.py:smoke     (minutes on two CPU cores)

Published test relative L2: 3.5e-3. FLARE with this routing and its own deep projections is
--config=configs/pde.py:model=flare_pp,data=pipe.
"""

from ml_collections import ConfigDict

from configs import pde
from configs.common import parse_argument
from configs.smoke import shrink

EXPECTED = None  # not measured


def get_config(argument: str | None = None) -> ConfigDict:
    """Return the configuration; `smoke` is a small network on few generated samples."""
    variant = parse_argument(argument)
    config = pde.get_config("model=flarepp,data=pipe")
    config.name = "flarepp_pipe"
    if variant == "smoke":
        shrink(config, n_train=160, n_test=16, epochs=20, resolution=17)
    return config

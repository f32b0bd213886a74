"""FLARE on DrivAerML at 40 000 points: the published configuration (500 epochs, batch 1, float32).

    python -m experiments.pdebench --config=configs/flare_drivaerml_40k.py
    python -m experiments.pdebench --config=configs/flare_drivaerml_40k.py:smoke     (minutes on two CPU cores)

The smoke variant trains on 1024 random points of each of a few artificial stand-ins of 10 000 points. On the full data
--config.task.points_per_step=20000 does the same with 20 000. Published test relative L2: 6.08e-2.
"""

from ml_collections import ConfigDict

from configs import pde
from configs.common import parse_argument
from configs.smoke import shrink

EXPECTED = None  # not measured


def get_config(argument: str | None = None) -> ConfigDict:
    """Return the configuration; `smoke` is a small network on few generated samples."""
    variant = parse_argument(argument)
    config = pde.get_config("model=flare,data=drivaerml_40k")
    config.name = "flare_drivaerml_40k"
    if variant == "smoke":
        config.data.name = "drivaerml_10k"
        config.task.points_per_step = 1024
        shrink(config, n_train=12, n_test=3, epochs=20, batch_size=1)
    return config

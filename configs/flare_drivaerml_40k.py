"""FLARE on DrivAerML at 40 000 points: the published configuration (500 epochs, batch 1, float32).

    python -m experiments.pdebench --config=configs/flare_drivaerml_40k.py
    python -m experiments.pdebench --config=configs/flare_drivaerml_40k.py:smoke     (minutes on two CPU cores)

The smoke variant trains on 1024 random points of each of a few artificial stand-ins of 10 000 points. On the full data
--config.data.points_per_step=20000 does the same with 20 000. Published test relative L2: 6.08e-2.
"""

from ml_collections import ConfigDict

from configs import pde
from configs.expected import Expected

EXPECTED = Expected(step_ms=10.62, device="H100 80GB")


def get_config(argument: str | None = None) -> ConfigDict:
    """Return the configuration; `smoke` is a small network on few samples."""
    return pde.named(argument, "flare_drivaerml_40k", model="flare", data="drivaerml_40k")

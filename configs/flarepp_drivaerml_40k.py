"""FLARE++ on DrivAerML at 40 000 points: the published configuration (695 713 parameters, 500 epochs, float32).

    python -m experiments.pdebench --config=configs/flarepp_drivaerml_40k.py
    python -m experiments.pdebench --config=configs/flarepp_drivaerml_40k.py:smoke     (minutes on two CPU cores)

The smoke variant trains on 1024 random points of each of a few artificial stand-ins of 10 000 points. Published test
relative L2: 5.80e-2. FLARE with this routing and its own deep projections is
--config=configs/pde.py:model=flare_pp,data=drivaerml_40k.
"""

from ml_collections import ConfigDict

from configs import pde

EXPECTED = None  # not measured


def get_config(argument: str | None = None) -> ConfigDict:
    """Return the configuration; `smoke` is a small network on few samples."""
    return pde.named(argument, "flarepp_drivaerml_40k", model="flarepp", data="drivaerml_40k")

"""FLARE on DrivAerML at a million points: the settings of the original's scaling study (500 epochs, batch 1, bfloat16).

    python -m experiments.pdebench --config=configs/flare_drivaerml_1m.py
    python -m experiments.pdebench --config=configs/flare_drivaerml_1m.py:smoke     (minutes on two CPU cores)

The study varies blocks in 1, 2, 4, 8 and latents in 128, 512, 1024, 2048: --config.model.num_blocks,
--config.model.num_latents. The smoke variant trains on 1024 random points of each of a few artificial stand-ins of
10 000 points, in float32.
"""

from ml_collections import ConfigDict

from configs import pde
from configs.expected import Expected

EXPECTED = Expected(step_ms=111.4, device="H100 80GB")


def get_config(argument: str | None = None) -> ConfigDict:
    """Return the configuration; `smoke` is a small network on few samples."""
    return pde.named(argument, "flare_drivaerml_1m", model="flare", data="drivaerml_1m")

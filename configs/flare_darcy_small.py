"""FLARE on true FNO Darcy solutions at 16², tested at 16² and, without retraining, at 32².

    python -m experiments.pdebench --config=configs/flare_darcy_small.py
    python -m experiments.pdebench --config=configs/flare_darcy_small.py:smoke     (minutes on two CPU cores)

Seed 0, one H100: test relative L2 8.20e-2 at 16² and 9.75e-2 at 32² (predicting the training mean: 6.43e-1, 6.34e-1),
under four minutes in two parts, the second of which resumed the first.

The three files darcy_{train_16,test_16,test_32}.npz belong into data/darcy_small.
"""

from ml_collections import ConfigDict

from configs import pde
from configs.expected import Expected

EXPECTED = Expected(metric="test/rel_l2", value=8.20e-2, seconds=240, step_ms=1.13, device="H100 80GB", data="public")


def get_config(argument: str | None = None) -> ConfigDict:
    """Return the configuration; `smoke` is a small network on few samples."""
    return pde.named(argument, "flare_darcy_small", model="flare", data="darcy_small")

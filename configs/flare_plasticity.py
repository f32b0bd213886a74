"""FLARE on plasticity, 101 × 31 points at 20 times: the field at a given time (500 epochs, batch 8, float32).

    python -m experiments.pdebench --config=configs/flare_plasticity.py
    python -m experiments.pdebench --config=configs/flare_plasticity.py:smoke     (minutes on two CPU cores)

FLARE has no time input: the time is a constant channel behind (place, profile of the die). Every batch is visited 20
times, once per time, with one optimizer step each; --config.task.times_per_step=4 makes one step on 4 random times. No
published setting of FLARE: length, batch and clipping are those of Transolver.
"""

from ml_collections import ConfigDict

from configs import pde

EXPECTED = None  # not measured


def get_config(argument: str | None = None) -> ConfigDict:
    """Return the configuration; `smoke` is a small network on few samples."""
    return pde.named(argument, "flare_plasticity", model="flare", data="plasticity")

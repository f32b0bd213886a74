"""FLARE on LPBF, parts of up to 47 542 nodes: the published configuration (250 epochs, batch 1, float32).

    python -m experiments.pdebench --config=configs/flare_lpbf.py
    python -m experiments.pdebench --config=configs/flare_lpbf.py:smoke     (minutes on two CPU cores)

Parts are padded to four sizes. The error is the true relative L2 of the z-displacement, beside mean squared error and
R²; --config.task.original_metric=True adds the original's expression, of which its 1.85e-2 may be a value. The smoke
variant trains on coarse parts that are generated.
"""

from ml_collections import ConfigDict

from configs import pde

EXPECTED = None  # not measured


def get_config(argument: str | None = None) -> ConfigDict:
    """Return the configuration; `smoke` is a small network on few samples."""
    return pde.named(argument, "flare_lpbf", model="flare", data="lpbf")

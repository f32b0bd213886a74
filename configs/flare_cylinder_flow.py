"""FLARE on the flow past a cylinder over time: increments of the velocity, rolled out (50 epochs, batch 8, float32).

    python -m experiments.pdebench --config=configs/flare_cylinder_flow.py
    python -m experiments.pdebench --config=configs/flare_cylinder_flow.py:smoke     (minutes on two CPU cores)

A training sample is a pair of successive frames; inputs carry noise (--config.task.noise), evaluation runs over all
frames and keeps inflow and walls at their recorded values. No published setting of FLARE. Nothing generates these data:
the smoke variant is a small network on four cases of the public files.
"""

from ml_collections import ConfigDict

from configs import pde

EXPECTED = None  # not measured


def get_config(argument: str | None = None) -> ConfigDict:
    """Return the configuration; `smoke` is a small network on four cases."""
    return pde.named(argument, "flare_cylinder_flow", model="flare", data="cylinder_flow")

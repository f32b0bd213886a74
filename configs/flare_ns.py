"""FLARE on Navier–Stokes at viscosity 1e-5, 64 × 64 points: ten frames from the ten before (500 epochs, batch 2).

    python -m experiments.pdebench --config=configs/flare_ns.py
    python -m experiments.pdebench --config=configs/flare_ns.py:smoke     (minutes on two CPU cores)

Training feeds the true frames (--config.task.feed=pushforward or prediction feed the model's own), evaluation the
predicted ones. No published setting of FLARE: length and batch are those of Transolver, which is twice as wide here as
on other sets too. Measured on one H100 and generated data: 17.4 ms per step in bfloat16, 1.10e-1 over the rollout with
--config.train.epochs=50 --config.train.dtype=bfloat16 (25 000 steps).
"""

from ml_collections import ConfigDict

from configs import pde
from configs.expected import Expected

EXPECTED = Expected(
    metric="test/rel_l2",
    value=1.10e-1,
    step_ms=17.4,
    device="H100 80GB",
    data="generated",
    options=("--config.train.epochs=50", "--config.train.dtype=bfloat16"),
)


def get_config(argument: str | None = None) -> ConfigDict:
    """Return the configuration; `smoke` is a small network on few samples."""
    return pde.named(argument, "flare_ns", model="flare", data="navier_stokes")

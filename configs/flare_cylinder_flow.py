"""FLARE on the flow past a cylinder over time: increments of the velocity, rolled out (50 epochs, batch 8, float32).

    python -m experiments.pdebench --config=configs/flare_cylinder_flow.py
    python -m experiments.pdebench --config=configs/flare_cylinder_flow.py:smoke     (minutes on two CPU cores)

A training sample is a pair of successive frames; inputs carry noise (--config.task.noise), evaluation runs over all
frames and keeps inflow and walls at their recorded values. No published setting of FLARE. Nothing generates these data:
the smoke variant is a small network on four cases of the public files.
"""

from ml_collections import ConfigDict

from configs.common import parse_argument, pde_config, update
from configs.smoke import shrink

EXPECTED = None  # not measured


def get_config(argument: str | None = None) -> ConfigDict:
    """Return the configuration; `smoke` is a small network on few cases."""
    variant = parse_argument(argument)
    config = pde_config("cylinder_flow")
    config.name = "flare_cylinder_flow"
    update(config.data, {"n_train": 100, "n_test": 20, "num_generate": 120})
    update(config.model, {"channel_dim": 64, "num_blocks": 8, "num_heads": 8, "num_latents": 128})
    update(config.train, {"epochs": 50, "batch_size": 8})
    config.optimizer.weight_decay = 1e-5
    config.eval.batch_size = 5
    if variant == "smoke":
        update(config.data, {"skip_steps": 0, "max_steps": 20})
        shrink(config, n_train=4, n_test=2, epochs=10)
    return config

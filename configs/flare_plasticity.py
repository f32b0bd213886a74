"""FLARE on plasticity, 101 × 31 points at 20 times: the field at a given time (500 epochs, batch 8, float32).

    python -m experiments.pdebench --config=configs/flare_plasticity.py
    python -m experiments.pdebench --config=configs/flare_plasticity.py:smoke     (minutes on two CPU cores)

FLARE has no time input: the time is a constant channel behind (place, profile of the die). Every batch is visited 20
times, once per time, with one optimizer step each; --config.task.times_per_step=4 makes one step on 4 random times. No
published setting of FLARE: length, batch and clipping are those of Transolver.
"""

from ml_collections import ConfigDict

from configs.common import parse_argument, pde_config, update
from configs.smoke import shrink

EXPECTED = None  # not measured


def get_config(argument: str | None = None) -> ConfigDict:
    """Return the configuration; `smoke` is a small network on few generated samples."""
    variant = parse_argument(argument)
    config = pde_config("plasticity")
    config.name = "flare_plasticity"
    update(config.data, {"n_train": 900, "n_test": 80, "num_generate": 987})
    update(config.model, {"channel_dim": 64, "num_blocks": 8, "num_heads": 8, "num_latents": 128})
    update(config.train, {"epochs": 500, "batch_size": 8, "clip_norm": 0.1})
    config.optimizer.weight_decay = 1e-5
    config.eval.batch_size = 5
    if variant == "smoke":
        shrink(config, n_train=24, n_test=8, epochs=5, resolution=21)
    return config

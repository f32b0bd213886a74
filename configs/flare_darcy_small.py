"""FLARE on true FNO Darcy solutions at 16², tested at 16² and, without retraining, at 32².

    python -m experiments.pdebench --config=configs/flare_darcy_small.py
    python -m experiments.pdebench --config=configs/flare_darcy_small.py:smoke     (minutes on two CPU cores)

Seed 0, one H100: test relative L2 8.20e-2 at 16² and 9.75e-2 at 32² (predicting the training mean: 6.43e-1, 6.34e-1),
under four minutes in two parts, the second of which resumed the first.

The three files darcy_{train_16,test_16,test_32}.npz belong into data/darcy_small.
"""

from ml_collections import ConfigDict

from configs.common import parse_argument, pde_config, update
from configs.expected import Expected

EXPECTED = Expected(metric="test/rel_l2", value=8.20e-2, seconds=240, step_ms=1.13, device="H100 80GB", data="public")


def get_config(argument: str | None = None) -> ConfigDict:
    """Return the configuration; `smoke` is a small network for few epochs."""
    variant = parse_argument(argument)
    config = pde_config("darcy_small")
    config.name = "flare_darcy_small"
    update(config.data, {"n_train": 1000, "n_test": 50})
    update(config.model, {"channel_dim": 64, "num_blocks": 8, "num_heads": 8, "num_latents": 64})
    update(config.train, {"epochs": 200, "batch_size": 4})
    config.optimizer.weight_decay = 1e-5
    config.eval.batch_size = 50
    if variant == "smoke":
        config.name = "flare_darcy_small_smoke"
        update(config.model, {"channel_dim": 32, "num_blocks": 4, "num_heads": 4, "num_latents": 32})
        update(config.train, {"epochs": 20, "batch_size": 10, "ema_decay": 0.99})
    return config

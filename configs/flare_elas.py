"""FLARE on elasticity: the published configuration (592 641 parameters, 500 epochs, batch 2, float32).

python -m experiments.pdebench --config=configs/flare_elas.py
python -m experiments.pdebench --config=configs/flare_elas.py:smoke     (minutes on two CPU cores)
"""

from ml_collections import ConfigDict

from configs.common import parse_argument, pde_config, update
from configs.expected import Expected

EXPECTED = Expected(metric="test/rel_l2", value=2.16e-3, seconds=237, step_ms=0.79, device="H200", data="generated")


def get_config(argument: str | None = None) -> ConfigDict:
    """Return the configuration; `smoke` is a small network on few generated samples."""
    variant = parse_argument(argument)
    config = pde_config("elasticity")
    config.name = "flare_elas"
    update(config.model, {"channel_dim": 64, "num_blocks": 8, "num_heads": 8, "num_latents": 64})
    config.train.epochs = 500
    config.optimizer.weight_decay = 1e-5
    if variant == "smoke":
        config.name = "flare_elas_smoke"
        update(config.data, {"dir": "data/smoke", "source": "auto", "num_generate": 240, "n_train": 200, "n_test": 40})
        update(config.model, {"channel_dim": 32, "num_blocks": 4, "num_heads": 4, "num_latents": 32})
        config.train.epochs = 35
        # In as many steps Muon reaches less than half the error of AdamW here.
        config.optimizer.name = "muon"
    return config

"""The ablations of the FLARE paper on elasticity: shared latents, self-attention among the latents, MLP depths.

    python -m experiments.pdebench --config=configs/flare_ablations_elas.py --config.model.shared_latents=True
    python -m experiments.pdebench --config=configs/flare_ablations_elas.py --config.model.num_latent_blocks=1
    python -m experiments.pdebench --config=configs/flare_ablations_elas.py:smoke     (minutes on two CPU cores)

Without options it is the network of flare_elas.py. Give each setting its own --workdir.
"""

from ml_collections import ConfigDict, config_dict

from configs import flare_elas
from configs.common import update


def get_config(argument: str | None = None) -> ConfigDict:
    """Return the configuration of `flare_elas` with model type `flare_ablations`."""
    config = flare_elas.get_config(argument)
    config.name = config.name.replace("flare_elas", "flare_ablations_elas")
    sizes = {name: config.model[name] for name in ("channel_dim", "num_blocks", "num_heads", "num_latents")}
    config.model = ConfigDict(
        {
            "type": "flare_ablations",
            "channel_dim": 64,
            "num_blocks": 8,
            "num_heads": 8,
            "num_latents": 64,
            "act": config_dict.placeholder(str),
            "shared_latents": False,
            "num_latent_blocks": 0,
            "num_layers_kv_proj": 3,
            "num_layers_mlp": 3,
            "num_layers_in_out_proj": 2,
            "mlp_ratio": 1.0,
            "kv_proj_ratio": 1.0,
            "in_out_proj_ratio": 1.0,
            "out_proj_ln": True,
            "implementation": config_dict.placeholder(str),
            "mlp_implementation": config_dict.placeholder(str),
        }
    )
    update(config.model, sizes)
    return config

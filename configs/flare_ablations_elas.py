"""The ablations of the FLARE paper on elasticity: shared latents, self-attention among the latents, MLP depths.

    python -m experiments.pdebench --config=configs/flare_ablations_elas.py --config.model.shared_latents=True
    python -m experiments.pdebench --config=configs/flare_ablations_elas.py --config.model.num_latent_blocks=1
    python -m experiments.pdebench --config=configs/flare_ablations_elas.py:smoke     (minutes on two CPU cores)

Without options it is the network of flare_elas.py. Give each setting its own --workdir.
"""

from ml_collections import ConfigDict

from configs import flare_elas
from configs.common import model_section
from configs.expected import Expected

EXPECTED = Expected(
    metric="test/rel_l2",
    value=0.231,
    step_ms=1.37,
    device="H100 80GB",
    data="generated",
    options=("--config.train.epochs=5",),
)


def get_config(argument: str | None = None) -> ConfigDict:
    """Return the configuration of `flare_elas` with model type `flare_ablations`."""
    config = flare_elas.get_config(argument)
    config.name = config.name.replace("flare_elas", "flare_ablations_elas")
    sizes = {name: config.model[name] for name in ("channel_dim", "num_blocks", "num_heads", "num_latents")}
    config.model = model_section("flare_ablations", sizes)
    return config

"""Which mixer learns best for its parameters and its time? Networks of equal size with FLARE, FLARE++ and rivals.

    python -m experiments.sweep --study=studies/mixers.py --seeds=0,1,2,3,4           (elasticity, 100 epochs)
    python -m experiments.sweep --study=studies/mixers.py:darcy --seeds=0,1,2         (30 epochs; so for pipe)
    python -m experiments.sweep --study=studies/mixers.py --where=num_blocks=8
    python -m experiments.sweep --study=studies/mixers.py:backbones --seeds=0,1,2     (so backbones_darcy)

The last has the mixers alone, each in the same network. Widths, and depth and heads of `flare_pp`, are those of
`python -m benchmarks.widths` for the parameters of FLARE's published network at eight blocks.
"""

from typing import Any

from experiments.sweep.figures import Tradeoff
from experiments.sweep.study import Part, Study, axis
from studies.common import tiny

EPOCHS = {"elasticity": 100, "darcy": 30, "pipe": 30}
SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "elasticity": {  # 592 641 parameters
        "flare": {"channel_dim": 64},
        "flare_pp": {"channel_dim": 64, "num_layers_k_proj": 2, "num_layers_v_proj": 2},
        "flarepp": {"channel_dim": 88, "ffn_mlp_ratio": 1.609},
        "backbone_transolver3": {"channel_dim": 96, "ffn_mlp_ratio": 2.015},
        "transformer": {"channel_dim": 75, "mlp_ratio": 4.112},
        "luna": {"channel_dim": 80, "ffn_mlp_ratio": 1.755},
        "set_transformer": {"channel_dim": 72, "ffn_mlp_ratio": 2.154},
    },
    "darcy": {  # 691 009 parameters
        "flare": {"channel_dim": 64},
        "flare_pp": {"channel_dim": 56, "num_heads": 8},
        "flarepp": {"channel_dim": 88, "ffn_mlp_ratio": 1.674},
        "backbone_transolver3": {"channel_dim": 104, "ffn_mlp_ratio": 1.956},
        "luna": {"channel_dim": 88, "ffn_mlp_ratio": 1.514},
        "set_transformer": {"channel_dim": 80, "ffn_mlp_ratio": 1.423},
    },
    "pipe": {  # 625 409 parameters
        "flare": {"channel_dim": 64},
        "flare_pp": {"channel_dim": 64, "num_layers_k_proj": 2, "num_layers_v_proj": 1},
        "flarepp": {"channel_dim": 88, "ffn_mlp_ratio": 1.872},
        "backbone_transolver3": {"channel_dim": 96, "ffn_mlp_ratio": 2.236},
        "luna": {"channel_dim": 80, "ffn_mlp_ratio": 2.073},
        "set_transformer": {"channel_dim": 72, "ffn_mlp_ratio": 2.547},
    },
}

# Mixers with latents in one and the same network, of as many parameters.
BACKBONES: dict[str, dict[str, dict[str, Any]]] = {
    "elasticity": {
        "backbone_flare": {"channel_dim": 96, "ffn_mlp_ratio": 1.752},
        "backbone_simplifiedflarepp": {"channel_dim": 80, "ffn_mlp_ratio": 2.422},
        "backbone_flarepp": {"channel_dim": 88, "ffn_mlp_ratio": 1.609},
        "backbone_transolver": {"channel_dim": 96, "ffn_mlp_ratio": 2.015},
        "backbone_transolverpp": {"channel_dim": 104, "ffn_mlp_ratio": 1.89},
        "backbone_transolver3": {"channel_dim": 96, "ffn_mlp_ratio": 2.015},
    },
    "darcy": {
        "backbone_flare": {"channel_dim": 96, "ffn_mlp_ratio": 2.084},
        "backbone_simplifiedflarepp": {"channel_dim": 88, "ffn_mlp_ratio": 1.895},
        "backbone_flarepp": {"channel_dim": 88, "ffn_mlp_ratio": 1.674},
        "backbone_transolver": {"channel_dim": 104, "ffn_mlp_ratio": 1.956},
        "backbone_transolverpp": {"channel_dim": 112, "ffn_mlp_ratio": 1.839},
        "backbone_transolver3": {"channel_dim": 104, "ffn_mlp_ratio": 1.956},
    },
}
# Figure of the study, its data set and the sizes of its networks, by variant.
_VARIANTS: dict[str, tuple[str, str, dict[str, dict[str, Any]]]] = {
    "": ("mixers", "elasticity", SIZES["elasticity"]),
    "darcy": ("mixers_darcy", "darcy", SIZES["darcy"]),
    "pipe": ("mixers_pipe", "pipe", SIZES["pipe"]),
    "backbones": ("backbones", "elasticity", BACKBONES["elasticity"]),
    "backbones_darcy": ("backbones_darcy", "darcy", BACKBONES["darcy"]),
    "smoke": ("mixers", "elasticity", {}),
}


def get_study(variant: str) -> Study:
    """Return the study that `variant` names, without one all networks on elasticity; `smoke` has a tiny one."""
    if variant not in _VARIANTS:
        known = ", ".join(name for name in _VARIANTS if name)
        raise ValueError(f"study variant {variant!r} is not known; choose {known} or none")
    figure, data, sizes = _VARIANTS[variant]
    return Study(
        name="mixers",
        title=f"Mixers at equal size, {data}",
        columns=("model", "num_blocks"),
        parts=_tiny_parts() if variant == "smoke" else _parts(data, sizes),
        figures={figure: Tradeoff(lines="model", costs=("train_s", "parameters"))},
        metrics=("error", "parameters", "step_ms", "train_s"),
    )


def _parts(data: str, networks: dict[str, dict[str, Any]]) -> tuple[Part, ...]:
    return tuple(
        Part(
            config=_config(model, data),
            labels={"model": model},
            options={"train.epochs": EPOCHS[data], **{f"model.{name}": value for name, value in sizes.items()}},
            axes=(axis("model.num_blocks", 2, 4, 8),),
        )
        for model, sizes in networks.items()
    )


def _tiny_parts() -> tuple[Part, ...]:
    config = f"{_config('flare', 'elasticity')},smoke"
    return (Part(config=config, labels={"model": "flare"}, options=tiny(config)),)


def _config(model: str, data: str) -> str:
    return f"configs/pde.py:model={model},data={data}"

"""Which mixer learns best for its parameters and its time? Networks of equal size with FLARE, FLARE++ and rivals.

    python -m experiments.sweep --study=studies/mixers.py --seeds=0,1,2,3,4
    python -m experiments.sweep --study=studies/mixers.py --where=num_blocks=8

Widths, and the depth of the projections of `flare_pp`, are those of `python -m benchmarks.widths` for the parameters of
FLARE's published network at eight blocks.
"""

from experiments.sweep.figures import Tradeoff
from experiments.sweep.study import Part, Study, axis, choose_variant
from studies.common import tiny

PARAMETERS = 592_641
WIDTHS = {
    "flare": {"channel_dim": 64},
    "flare_pp": {"channel_dim": 64, "num_layers_k_proj": 2, "num_layers_v_proj": 2},
    "flarepp": {"channel_dim": 88, "ffn_mlp_ratio": 1.609},
    "backbone_transolver3": {"channel_dim": 96, "ffn_mlp_ratio": 2.015},
    "luna": {"channel_dim": 80, "ffn_mlp_ratio": 1.755},
    "set_transformer": {"channel_dim": 72, "ffn_mlp_ratio": 2.154},
}


def get_study(variant: str) -> Study:
    """Return the study; `smoke` has two tiny networks."""
    full = tuple(
        Part(
            config=_config(model),
            labels={"model": model},
            options={"train.epochs": 100, **{f"model.{name}": value for name, value in sizes.items()}},
            axes=(axis("model.num_blocks", 2, 4, 8),),
        )
        for model, sizes in WIDTHS.items()
    )
    configs = {model: f"{_config(model)},smoke" for model in ("flare", "flarepp")}
    smoke = tuple(
        Part(config=config, labels={"model": model}, options=tiny(config)) for model, config in configs.items()
    )
    return Study(
        name="mixers",
        title="Mixers at equal size, elasticity",
        columns=("model", "num_blocks"),
        parts=choose_variant(variant, full, smoke),
        figures={"mixers": Tradeoff(lines="model", costs=("train_s", "parameters"))},
        metrics=("error", "parameters", "step_ms", "train_s"),
    )


def _config(model: str) -> str:
    return f"configs/pde.py:model={model},data=elasticity"

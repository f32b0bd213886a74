"""What makes queries from the input learn faster? FLARE and `flare_pp` with one thing changed at a time, on elasticity.

python -m experiments.sweep --study=studies/routing.py                  (published sizes, 20 epochs)
python -m experiments.sweep --study=studies/routing.py:small            (the smoke networks: minutes on a CPU each)
python -m experiments.sweep --study=studies/routing.py:darcy --where=optimizer=adamw
"""

from typing import Any

from experiments.sweep.figures import Bars
from experiments.sweep.study import Part, Study
from studies.common import TINY_FLARE, tiny
from studies.mixers import SIZES

ROUTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "FLARE": ("flare", {}),
    "FLARE, queries and keys normalised": ("flare", {"qk_norm": True}),
    "FLARE, logits scaled by 1/√D": ("flare", {"attn_scale": "sqrt"}),
    "FLARE, normalised and scaled": ("flare", {"qk_norm": True, "attn_scale": "sqrt"}),
    "flare_pp": ("flare_pp", {}),
    "flare_pp, logits not scaled": ("flare_pp", {"attn_scale": "one"}),
    "flare_pp, gate shut at first": ("flare_pp", {"gate_logit_init": -6.0}),
    "flare_pp, latents of deviation 1": ("flare_pp", {"latent_std": 1.0}),
    "flare_pp, keys not normalised": ("flare_pp", {"k_norm": False}),
    "flare_pp, fixed queries not normalised": ("flare_pp", {"q_fixed_norm": False}),
}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adamw": {"optimizer.name": "adamw"},
    "muon": {"optimizer.name": "muon", "optimizer.muon_learning_rate": 0.005},
}
# Epochs by data set, those of the smoke network by "small".
EPOCHS = {"elasticity": 20, "darcy": 5, "small": 20}


def get_study(variant: str) -> Study:
    """Return the study of a variant: none, `darcy`, `small`, or `smoke` with a tiny network."""
    if variant not in ("", "darcy", "small", "smoke"):
        raise ValueError(f"study variant {variant!r} is not known; choose darcy, small, smoke or none")
    data = "darcy" if variant == "darcy" else "elasticity"
    return Study(
        name="routing",
        title=f"Routing by queries, {data}",
        columns=("routing", "optimizer"),
        parts=_tiny_parts() if variant == "smoke" else _parts(data, small=variant == "small"),
        figures={"routing": Bars(bars="routing", panels="optimizer")},
        metrics=("error", "train_error", "parameters"),
        seeds=(0, 1, 2),
    )


def _parts(data: str, small: bool) -> tuple[Part, ...]:
    def options(model: str, changes: dict[str, Any]) -> dict[str, Any]:
        sizes = {} if small else {**SIZES[data][model], "num_blocks": 8}
        return {f"model.{name}": value for name, value in {**sizes, **changes}.items()}

    epochs = {"train.epochs": EPOCHS["small" if small else data]}
    return tuple(
        Part(
            config=f"configs/pde.py:model={model},data={data}{',smoke' * small}",
            labels={"routing": name, "optimizer": optimizer},
            options={**epochs, **options(model, changes), **update},
        )
        for optimizer, update in OPTIMIZERS.items()
        for name, (model, changes) in ROUTINGS.items()
    )


def _tiny_parts() -> tuple[Part, ...]:
    return (Part(config=TINY_FLARE, labels={"routing": "FLARE", "optimizer": "adamw"}, options=tiny(TINY_FLARE)),)

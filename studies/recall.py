"""Which language models recall? Pairs of keys and values, whose values are asked for; accuracy by pairs and model.

    python -m experiments.sweep --study=studies/recall.py --where=model=recommended --where="pairs=4|16" --minutes=8
    python -m experiments.sweep --study=studies/recall.py --minutes=8                 (the same command goes on)

8192 tokens, rows of 256, 100 000 of them for training, two blocks of width 128, two learning rates of which the better
counts. Models with `_conv` bind neighbours by convolutions, as the recommended one does.
"""

from collections.abc import Mapping
from typing import Any

from experiments.sweep.figures import Bars
from experiments.sweep.study import Part, Study, axis, choose_variant

_CONV: Mapping[str, Any] = {"model.short_conv": True}
MODELS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "recommended": ("recommended", {}),
    "transformer_conv": ("transformer", _CONV),
    "gla_conv": ("gla", _CONV),
    "published": ("published", {}),
    "published_conv": ("published", _CONV),
    "state": ("state", {}),
    "stablemax": ("stablemax", {}),
    "transformer": ("transformer", {}),
    "gla": ("gla", {}),
}
PAIRS = (4, 16, 8, 32, 64)


def get_study(variant: str) -> Study:
    """Return the study; `smoke` has a tiny one."""
    full = tuple(
        Part(
            config=f"configs/lm.py:model={model},size=recall128,recall",
            axes=(axis("data.pairs", *PAIRS), axis("optimizer.learning_rate", 1e-3, 3e-3)),
            options={"train.epochs": 4, **options},
            labels={"model": name},
        )
        for name, (model, options) in MODELS.items()
    )
    smoke = Part(
        config="configs/lm.py:model=published,size=recall32,recall,smoke",
        axes=(axis("data.pairs", 2),),
        options={"train.steps": 4, "figures": False},
        labels={"model": "published", "learning_rate": 1e-3},
    )
    return Study(
        name="recall",
        title="Associative recall: share of right answers",
        columns=("model", "pairs", "learning_rate"),
        parts=choose_variant(variant, full, (smoke,)),
        figures={"recall": Bars(bars="model", panels="pairs", metric="accuracy", log=False)},
        error="test/accuracy",
        metrics=("accuracy", "train_accuracy", "parameters", "step_ms"),
    )

"""How well do FLARE, FLARE++ and a transformer learn ListOps? The published budget of 10 000 steps of 32 expressions.

python -m data_pipeline.generate listops --seed=42 --out=data        (or put the public files there)
python -m experiments.sweep --study=studies/listops.py
"""

from experiments.sweep.figures import Bars
from experiments.sweep.study import Part, Study, choose_variant

BACKENDS = {"transformer": "transformer", "FLARE": "flare", "FLARE++": "flarepp"}
# Test accuracy in Long Range Arena, in the first version of arXiv 2608.11519.
PUBLISHED = {"transformer": 0.3670, "FLARE": 0.3685, "FLARE++": 0.3805}
# Of texts as long as the published ones.
TINY = {"data.num_generate": 24, "train.steps": 4, "train.batch_size": 2, "eval.batch_size": 2, "figures": False}


def get_study(variant: str) -> Study:
    """Return the study; `smoke` trains a tiny network for a few steps."""
    names = choose_variant(variant, tuple(BACKENDS), ("FLARE",))
    suffix = choose_variant(variant, "", ",smoke")
    return Study(
        name="listops",
        title="ListOps at the published budget",
        columns=("model",),
        parts=tuple(
            Part(
                config=f"configs/lra.py:task=listops,model={BACKENDS[name]}{suffix}",
                labels={"model": name},
                options=choose_variant(variant, {}, TINY),
            )
            for name in names
        ),
        figures={"listops": Bars(bars="model", metric="accuracy", log=False)},
        seeds=choose_variant(variant, (0, 1, 2), (0,)),
        error="test/sequence_accuracy",
        metrics=("accuracy", "parameters", "step_ms", "train_s"),
        published={"accuracy": {(name,): value for name, value in PUBLISHED.items()}},
    )

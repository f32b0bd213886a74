"""Which model is best on which data? The models of the published comparison on its six data sets, with their recipes.

    python -m experiments.sweep --study=studies/comparison.py --seeds=0,1,2
    python -m experiments.sweep --study=studies/comparison.py:all --where=data=elasticity --set=train.epochs=20

`all` has every model type of the project that is no part of the published comparison too; those that send messages
along the edges of a mesh only on data that have some.
"""

from data_pipeline.registry import find_record
from experiments.pdebench.models import takes_edges
from experiments.sweep.figures import Bars
from experiments.sweep.study import Part, Study, grid
from flare_jax.models.registry import MODELS
from studies.common import tiny

DATA = ("elasticity", "darcy", "airfoil_steady", "pipe", "drivaerml_40k", "lpbf")
GRIDS = ("darcy", "airfoil_steady", "pipe")
# Model types of the published comparison by their names there; with convolutions on grids only.
NAMES = {
    "softmax attention": "transformer",
    "PerceiverIO": "perceiverio",
    "GNOT": "gnot",
    "LNO": "lno",
    "Transolver": "transolver",
    "Transolver with convolutions": "transolver",
    "Transolver++": "transolver++",
    "LaMO": "lamo",
    "FLARE": "flare",
}
# Test relative L2 × 1e-3 of the original.
PUBLISHED = {
    "softmax attention": "5.37 4.38 6.28 - - -",
    "PerceiverIO": "28.0 20.6 7.65 6.90 248 23.1",
    "GNOT": "13.3 16.9 103 5.89 115 24.3",
    "LNO": "9.25 7.64 17.8 8.10 146 24.7",
    "Transolver": "6.40 18.6 8.24 4.87 70.5 20.4",
    "Transolver with convolutions": "- 5.94 5.50 3.90 - -",
    "FLARE": "3.38 5.10 4.28 2.85 60.8 18.5",
}


def get_study(variant: str) -> Study:
    """Return the study; `smoke` has two tiny networks on elasticity."""
    if variant not in ("", "all", "smoke"):
        raise ValueError(f"study variant {variant!r} is not known; choose all, smoke or none")
    parts = [_part(data, name) for data in DATA for name in NAMES if data in GRIDS or "convolutions" not in name]
    if variant == "all":
        others = [name for name in MODELS if name not in NAMES.values()]
        parts += [
            _part(data, name)
            for data in DATA
            for name in others
            if not takes_edges(name) or find_record(data).has_edges
        ]
    if variant == "smoke":
        parts = [_part("elasticity", name, smoke=True) for name in ("FLARE", "flare_ablations")]
    errors = {(data, name): value for (name, data), value in grid(PUBLISHED, DATA).items()}
    return Study(
        name="comparison",
        title="PDE surrogates with their published recipes",
        columns=("data", "model"),
        parts=tuple(parts),
        figures={"comparison": Bars(bars="model", panels="data")},
        metrics=("error", "train_error", "parameters", "step_ms", "epoch_s", "compile_s", "peak_gib"),
        published={"error": errors},
    )


def _part(data: str, name: str, smoke: bool = False) -> Part:
    switches = (",conv2d" if "convolutions" in name else "") + (",smoke" if smoke else "")
    config = f"configs/pde.py:model={NAMES.get(name, name)},data={data}{switches}"
    return Part(config=config, options=tiny(config) if smoke else {}, labels={"data": data, "model": name})

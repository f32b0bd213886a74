"""How does FLARE scale on DrivAerML at a million points? Error, time and memory over blocks B and latents M.

    python -m experiments.sweep --study=studies/scale_drivaerml.py

The published errors are a tenth of those that the original reports at 40 000 points for the same quantity, perhaps
because they are of normalised fields: their course over B counts, not their size.
"""

from experiments.sweep.figures import Curves
from experiments.sweep.study import Part, Study, axis, choose_variant, grid
from studies.common import tiny

BLOCKS = (1, 2, 4, 8)
CONFIG = "configs/flare_drivaerml_1m.py"
SMOKE = f"{CONFIG}:smoke"
TINY = {
    "data.num_generate": 5,
    "data.n_train": 3,
    "data.n_test": 1,
    "train.epochs": 1,
    "eval.simple_predictors": False,
    "figures": False,
}
# Of the original, a row for each M: test error, seconds per epoch; peak GB are the same for every M.
ERRORS = {
    128: ".212 .0146 .00808 .00647",
    512: ".0398 .0142 .00847 .00600",
    1024: ".0440 .0139 .00973 .00811",
    2048: ".0395 .0150 .00746 .00608",
}
SECONDS = {128: "34 55 100 186", 512: "36 63 113 216", 1024: "41 71 131 251", 2048: "52 95 177 343"}
PEAK_GB = "5.9 9.8 17.8 33.7"


def get_study(variant: str) -> Study:
    """Return the study; `smoke` has one tiny network on few points of small stand-ins."""
    full = Part(config=CONFIG, axes=(axis("model.num_latents", *ERRORS), axis("model.num_blocks", *BLOCKS)))
    few = axis("model.num_latents", 4), axis("model.num_blocks", 1)
    sizes = {name: value for name, value in tiny(SMOKE).items() if name.startswith("model.")}
    smoke = Part(config=SMOKE, options={**sizes, **TINY}, axes=few)
    shown = ("error", "epoch_s", "peak_gib")
    return Study(
        name="scale_drivaerml",
        title="FLARE on DrivAerML, a million points",
        columns=("num_latents", "num_blocks"),
        parts=(choose_variant(variant, full, smoke),),
        figures={
            "scale_drivaerml": Curves(
                x="num_blocks", lines="num_latents", metrics=shown, names={"num_blocks": "blocks", "num_latents": "M"}
            )
        },
        metrics=("error", "parameters", "epoch_s", "peak_gib"),
        published={
            "error": grid(ERRORS, BLOCKS, scale=1.0),
            "epoch_s": grid(SECONDS, BLOCKS, scale=1.0),
            "peak_gib": grid(dict.fromkeys(ERRORS, PEAK_GB), BLOCKS, scale=1e9 / 2**30),
        },
    )

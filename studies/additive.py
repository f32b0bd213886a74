"""Which surrogate is best on printed parts? Their final state, and their series marched layer by layer; three seeds.

    python -m data_pipeline.additive generate --num=720 --resolution=50 --out=data
    python -m experiments.sweep --study=studies/additive.py --jobs=4           (both tasks)
    python -m experiments.sweep --study=studies/additive.py:final              (or one: final, series)

Errors are true relative L2 errors, beside those of the training mean and of the three most similar training parts, and
in series of keeping every state; `error from true states` has the true state before every step. All models see the
eight symmetries of the build plate. Runs leave figures of their parts in their folders.
"""

from collections.abc import Mapping
from typing import Any

from experiments.sweep.figures import Bars, Profile
from experiments.sweep.study import Part, Study
from studies.common import tiny

SEEDS = (0, 1, 2)
MODELS: Mapping[str, tuple[str, ...]] = {
    "final": ("flare", "flarepp", "transolver", "mesh_graph_net"),
    "series": ("flare", "mesh_graph_net"),
}
# For models of one size: as many parameters as FLARE's half million.
_SIZES: Mapping[str, Mapping[str, Any]] = {"mesh_graph_net": {"model.channel_dim": 64}}
# Larger batches than the published one, and one size of all parts, so that the seeds share one program.
_TRAINING: Mapping[str, Any] = {
    "data.buckets": 1,
    "data.distance_features": True,
    "task.symmetries": True,
    "train.batch_size": 8,
    "eval.batch_size": 20,
    "optimizer.name": "muon",
    "figures": True,
}
_TASKS: Mapping[str, Mapping[str, Any]] = {
    "final": {"data.n_train": 600, "data.n_test": 120, "train.epochs": 60},
    "series": {"data.n_train": 500, "data.n_test": 100, "train.epochs": 4, "task.noise": 0.01},
}
# What tables have beside the error, by its name in the report of a run.
_COLLECTED: Mapping[str, Mapping[str, str]] = {
    "final": {
        "r2": "test/r2_quantiles",
        "mean_error": "test/rel_l2_mean_predictor",
        "nearest_parts_error": "test/rel_l2_nearest_parts",
    },
    "series": {
        "r2": "test/r2_quantiles",
        "last_error": "test/rel_l2_last",
        "teacher_forced_error": "test/rel_l2_teacher_forced",
        "copy_last_error": "test/rel_l2_copy_last",
        "nearest_fill_error": "test/rel_l2_nearest_fill",
        "error_by_step": "test/rel_l2_by_frame_median",
        "error_by_step_true": "test/rel_l2_by_frame_median_teacher_forced",
        "r2_by_step": "test/r2_by_frame_median",
        "r2_by_step_true": "test/r2_by_frame_median_teacher_forced",
    },
}
_COSTS = ("parameters", "step_ms", "train_s")
_METRICS = {
    "final": ("error", "train_error", "r2_0.5", "mean_error", "nearest_parts_error"),
    "series": (
        "error", "train_error", "r2_0.5", "last_error", "teacher_forced_error", "copy_last_error", "nearest_fill_error",
    ),
}  # fmt: skip
_STEPS: Mapping[str, Any] = {"lines": "model", "panels": "task", "names": {"model": ""}, "x": "step"}
_FIGURES = {
    "final": {"additive_error": Bars(bars="model", panels="task", log=False)},
    "series": {
        "additive_error_by_step": Profile(
            "error_by_step_", beside="error_by_step_true_", words="true states", **_STEPS
        ),
        "additive_r2_by_step": Profile("r2_by_step_", beside="r2_by_step_true_", words="true states", **_STEPS),
    },
}


def get_study(variant: str) -> Study:
    """Return the study, that of one task for `final` and `series`; `smoke` has a tiny network on series."""
    if variant not in ("", "smoke", *MODELS):
        raise ValueError(f"study variant {variant!r} is not known; choose {', '.join(MODELS)}, smoke or none")
    smoke = variant == "smoke"
    tasks = (variant,) if variant in MODELS else ("series",) if smoke else tuple(MODELS)
    parts = [_part(task, model, smoke) for task in tasks for model in (["flare"] if smoke else MODELS[task])]
    return Study(
        name="additive",
        title="Printed parts",
        columns=("task", "model"),
        parts=tuple(parts),
        figures={name: drawing for task in tasks for name, drawing in _FIGURES[task].items()},
        seeds=(0,) if smoke else SEEDS,
        metrics=tuple(dict.fromkeys([*(name for task in tasks for name in _METRICS[task]), *_COSTS])),
    )


def _part(task: str, model: str, smoke: bool) -> Part:
    config = f"configs/am_{task}.py:model={model}" + (",smoke" if smoke else "")
    options = {**_TRAINING, **_TASKS[task], **_SIZES.get(model, {})}
    if smoke:
        options |= {**tiny(config), "data.n_train": 4, "data.n_test": 2, "train.batch_size": 2, "figures": False}
    return Part(config=config, options=options, labels={"task": task, "model": model}, collect=_COLLECTED[task])

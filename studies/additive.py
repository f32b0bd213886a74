"""Which surrogate is best on printed parts? Their final state, and their series marched layer by layer; three seeds.

    python -m data_pipeline.additive generate --num=1250 --resolution=25 --out=data
    python -m experiments.sweep --study=studies/additive.py --jobs=6           (both tasks)
    python -m experiments.sweep --study=studies/additive.py:final              (or one: final, series)

Errors are true relative L2 errors of the vertical displacement, means over parts, beside those of the training mean and
of the three most similar training parts, and in series of keeping every state; `error from true states` has the true
state before every step. All models see distances to the surface and the eight symmetries of the build plate. Runs
leave figures of their parts in their folders.
"""

from collections.abc import Mapping
from typing import Any

from experiments.sweep.figures import Bars, Profile
from experiments.sweep.study import Part, Study
from studies.common import tiny

SEEDS = (0, 1, 2)
# What takes longest comes first.
MODELS: Mapping[str, tuple[str, ...]] = {
    "series": ("mesh_graph_net", "flare"),
    "final": ("mesh_graph_net", "transolver", "flarepp", "flare"),
}
# Of its published depth and half its width, which is nearer to FLARE's size.
_SIZES: Mapping[str, Mapping[str, Any]] = {"mesh_graph_net": {"model.channel_dim": 64}}
# Larger batches and fewer epochs than the published ones, and Muon, which needs less of them; the rate ends at 0, so
# that an average of weights adds nothing.
_TRAINING: Mapping[str, Any] = {
    "data.buckets": 2,
    "data.distance_features": True,
    "task.symmetries": True,
    "train.batch_size": 8,
    "train.ema_decay": 0.0,
    "eval.weights": "raw",
    "eval.batch_size": 20,
    "optimizer.name": "muon",
    "figures": True,
}
_TASKS: Mapping[str, Mapping[str, Any]] = {
    "final": {"data.n_train": 960, "data.n_test": 240, "train.epochs": 32, "eval.every": 16, "checkpoint.every": 8},
    "series": {
        "data.n_train": 300,
        "data.n_test": 60,
        "data.fields": "disp_z",
        "data.drop_plate": True,
        "task.noise": 0.002,
        "train.epochs": 3,
        "eval.every": 3,
    },
}
# What tables have beside the error, by its name in the report of a run.
_COLLECTED: Mapping[str, Mapping[str, str]] = {
    "final": {
        "r2": "test/r2_quantiles",
        "error_quantile": "test/rel_l2_quantiles",
        "mean_error": "test/rel_l2_mean_predictor",
        "nearest_parts_error": "test/rel_l2_nearest_parts",
        "nearest_parts_median_error": "test/rel_l2_nearest_parts_median",
    },
    "series": {
        "r2": "test/r2_quantiles",
        "error_quantile": "test/rel_l2_quantiles",
        "last_error": "test/rel_l2_last",
        "teacher_forced_error": "test/rel_l2_teacher_forced",
        "copy_last_error": "test/rel_l2_copy_last",
        "nearest_fill_error": "test/rel_l2_nearest_fill",
        "nearest_fill_median_error": "test/rel_l2_nearest_fill_median",
        "error_by_step": "test/rel_l2_by_frame_median",
        "error_by_step_true": "test/rel_l2_by_frame_median_teacher_forced",
        "r2_by_step": "test/r2_by_frame_median",
        "r2_by_step_true": "test/r2_by_frame_median_teacher_forced",
    },
}
_COSTS = ("parameters", "step_ms", "train_s")
_ERRORS = ("error", "train_error", "error_quantile_0.5", "r2_0.5")
_METRICS = {
    "final": (*_ERRORS, "mean_error", "nearest_parts_error", "nearest_parts_median_error"),
    "series": (
        *_ERRORS, "last_error", "teacher_forced_error", "copy_last_error", "nearest_fill_error",
        "nearest_fill_median_error",
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
        options |= {
            **tiny(config),
            "data.n_train": 4,
            "data.n_test": 2,
            "data.buckets": 1,
            "train.batch_size": 2,
            "eval.batch_size": 2,
            "eval.every": 0,
        }
    return Part(config=config, options=options, labels={"task": task, "model": model}, collect=_COLLECTED[task])

"""Any model type on any PDE data set, with the recipe of the published comparison.

    python -m experiments.pdebench --config=configs/pde.py:model=transolver,data=elasticity
    python -m experiments.pdebench --config=configs/pde.py:model=transolver,data=darcy,conv2d
    python -m experiments.pdebench --config=configs/pde.py:model=lno,data=elasticity,smoke   (minutes, two CPU cores)

The smoke variants of all DrivAerML sets train on artificial cars of 10 000 points.

`conv2d` is the variant of transolver, lamo and ts3_uncond with convolutions on the structured grid of the data set. The
model types are those of `flare_jax.models.MODELS`; the recipes are in configs/pde_recipes.py. Every constructor option
is in the config and can be overridden, for example --config.model.num_blocks=4.
"""

from ml_collections import ConfigDict

from configs.common import model_section, parse_arguments, update
from configs.pde_recipes import (
    CONVOLUTIONAL,
    FRAMES,
    GRIDS,
    NUM_GENERATE,
    PLANE,
    SMOKE_CHANGES,
    SMOKE_SIZES,
    UNIFIED_GRIDS,
    model_options,
    training_recipe,
)
from data_pipeline.registry import DATASETS
from experiments.defaults import pde_defaults


def get_config(argument: str | None = None) -> ConfigDict:
    """Return the configuration for `model=<type>,data=<data set>[,conv2d][,smoke]`."""
    chosen = parse_arguments(argument, names=("model", "data"), switches=("conv2d", "smoke"))
    model_type, dataset = chosen["model"], chosen["data"]
    model_section(model_type)  # an unknown model type is reported before an unknown data set
    recipe = training_recipe(model_type, dataset)
    options = model_options(model_type, dataset)
    if chosen["conv2d"]:
        options |= _on_the_grid(model_type, dataset)
    config = pde_defaults(dataset)
    parts = (model_type.replace("++", "_pp"), dataset, *(name for name in ("conv2d", "smoke") if chosen[name]))
    config.name = "_".join(parts)
    if dataset in DATASETS:
        update(config.data, {"n_train": DATASETS[dataset].N_TRAIN, "n_test": DATASETS[dataset].N_TEST})
        config.data.source = "files" if DATASETS[dataset].GENERATOR is None else "auto"
    if dataset in NUM_GENERATE:
        config.data.num_generate = NUM_GENERATE[dataset]
    update(
        config.train,
        {
            "epochs": recipe.epochs,
            "batch_size": recipe.batch_size,
            "clip_norm": recipe.clip_norm,
            "dtype": recipe.dtype,
        },
    )
    update(
        config.optimizer,
        {
            "learning_rate": recipe.learning_rate,
            "weight_decay": recipe.weight_decay,
            "beta2": recipe.beta2,
            "eps": recipe.eps,
        },
    )
    update(config.schedule, {"pct_start": recipe.pct_start, "div_factor": recipe.div_factor})
    config.eval.batch_size = 5 if dataset in (*PLANE, *FRAMES) else 1
    config.model = model_section(model_type, options)
    if chosen["smoke"]:
        _shrink(config)
    return config


def _on_the_grid(model_type: str, dataset: str) -> dict[str, object]:
    if model_type not in CONVOLUTIONAL or dataset not in GRIDS:
        raise ValueError(
            f"conv2d does not go with model={model_type},data={dataset}; the models {', '.join(CONVOLUTIONAL)} have it "
            f"on {', '.join(GRIDS)}"
        )
    unified = model_type != "ts3_uncond" and dataset in UNIFIED_GRIDS
    return {"grid_shape": "data", **({"unified_pos": True} if unified else {})}


def _shrink(config: ConfigDict) -> None:
    """Make the run one of minutes on a CPU: a small network, few samples, few epochs."""
    update(config.model, {name: size for name, size in SMOKE_SIZES.items() if name in config.model})
    update(config.data, {"n_train": 200, "n_test": 40})
    loader = DATASETS.get(config.data.name)
    if loader is not None and loader.GENERATOR is not None:
        # Artificial stand-ins are generated only where they are asked for by this word.
        source = "generated" if getattr(loader, "STAND_IN", False) else "auto"
        update(config.data, {"source": source, "dir": "data/smoke", "num_generate": 240})
    # The run is shorter than the 1000 steps that the average of the full job looks back.
    update(config.train, {"epochs": 10, "ema_decay": 0.99})
    for section, changes in SMOKE_CHANGES.get(config.data.name, {}).items():
        update(config[section], dict(changes))
    if "seq_len" in config.model and "points_per_step" in config.task:
        config.task.points_per_step = 0  # such a model has weights for every place in the order of the points

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

from configs.common import model_section, parse_argument, parse_arguments, update
from configs.pde_recipes import CONVOLUTIONAL, DATASETS, SMOKE_SIZES, model_options, training_recipe
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
    record = DATASETS[dataset]
    update(config.data, {"n_train": record.n_train, "n_test": record.n_test})
    update(
        config.train,
        {
            "epochs": recipe.epochs,
            "batch_size": recipe.batch_size,
            "clip_norm": recipe.clip_norm,
            "dtype": recipe.dtype,
            "matmul_precision": recipe.matmul_precision,
        },
    )
    update(
        config.optimizer,
        {
            "learning_rate": recipe.learning_rate,
            "weight_decay": recipe.weight_decay,
            "beta2": recipe.beta2,
            "eps": recipe.eps,
            "decay_latents": recipe.decay_latents,
        },
    )
    update(config.schedule, {"pct_start": recipe.pct_start, "div_factor": recipe.div_factor})
    config.eval.batch_size = record.eval_batch_size
    config.model = model_section(model_type, options)
    if chosen["smoke"]:
        _shrink(config)
    return config


def _on_the_grid(model_type: str, dataset: str) -> dict[str, object]:
    grids = [name for name, record in DATASETS.items() if record.grid is not None]
    if model_type not in CONVOLUTIONAL or dataset not in grids:
        raise ValueError(
            f"conv2d does not go with model={model_type},data={dataset}; the models {', '.join(CONVOLUTIONAL)} have it "
            f"on {', '.join(grids)}"
        )
    unified = model_type != "ts3_uncond" and DATASETS[dataset].unified
    return {"grid_shape": "data", **({"unified_pos": True} if unified else {})}


def named(argument: str | None, name: str, model: str, data: str) -> ConfigDict:
    """Return the configuration of a model on a data set under the name of its own config file, `NAME.py[:smoke]`."""
    variant = parse_argument(argument)
    config = get_config(f"model={model},data={data}" + (f",{variant}" if variant else ""))
    config.name = name + (f"_{variant}" if variant else "")
    return config


def _shrink(config: ConfigDict) -> None:
    """Make the run one of minutes on two CPU cores: a small network, and what the data set's record says.

    Data are files in data/smoke, generated where they are missing; artificial stand-ins only where they are asked for
    by the word "generated".
    """
    record = DATASETS[config.data.name]
    update(config.model, {name: size for name, size in SMOKE_SIZES.items() if name in config.model})
    if record.generator is not None:
        update(config.data, {"dir": "data/smoke", "source": "generated" if record.stand_in else "auto"})
    config.train.dtype = "float32"
    for section, changes in record.smoke.items():
        update(config[section], dict(changes))
    if "seq_len" in config.model and "points_per_step" in config.data:
        config.data.points_per_step = 0  # such a model has weights for every place in the order of the points

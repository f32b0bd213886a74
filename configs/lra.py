"""Any backend on any task of the sequence zoo, with the settings of the original's runs where it has them.

    python -m experiments.lra --config=configs/lra.py:task=listops,model=flare
    python -m experiments.lra --config=configs/lra.py:task=sudoku,model=transformer,trm
    python -m experiments.lra --config=configs/lra.py:task=listops,model=performer,smoke   (a minute on two CPU cores)

The tasks are those of `data_pipeline.sequence.registry.TASKS`, the models the backends of
`flare_jax.models.sequence.BACKENDS`; the settings are in the records of the tasks. With `trm` the blocks belong to the
tiny recursive model. Every constructor option is in the config and can be overridden, for example
--config.model.num_blocks=2. `smoke` trains a small network for a few steps on generated data.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import lra_recipes
from configs.common import parse_arguments, update
from data_pipeline.sequence.registry import TASKS, find_task
from experiments.lra.defaults import add_recursion, lra_defaults
from experiments.schema import default_values
from flare_jax.checks import check_choice
from flare_jax.models.sequence import BACKENDS, SEQUENCE_MODELS

# Arguments of the models that the task or other sections decide.
_NOT_OPTIONS = ("max_length", "seq_len", "pad_id")
_COMMAND_LINE = {"num_blocks": 4, "channel_dim": 128, "num_heads": 8, "pos_embed": "abs"}


def get_config(argument: str | None = None) -> ConfigDict:
    """Return the configuration for `task=<task>,model=<backend>[,trm][,smoke]`."""
    chosen = parse_arguments(argument, names=("task", "model"), switches=("trm", "smoke"))
    backend, recursive = chosen["model"], chosen["trm"]
    check_choice("model", backend, BACKENDS)
    config = lra_defaults(chosen["task"])
    record = find_task(config.data.name)
    config.model = sequence_section("trm" if recursive else "sequence", backend)
    parts = ("lra", record.name, backend, *(name for name in ("trm", "smoke") if chosen[name]))
    config.name = "_".join(parts)
    if recursive:
        add_recursion(config)
    _apply(config, lra_recipes.ORIGINAL)
    _apply(config, lra_recipes.BACKENDS.get(backend, {}))
    for settings in (record.recipe["all"], record.recipe.get(backend, {})):
        _apply(config, settings)
    if recursive:
        _apply(config, lra_recipes.RECURSIVE)
        if config.model.pool == "cls":
            config.model.pool = "mean"  # the recursive model has no such token
    if config.model.pos_embed == "rope" and not BACKENDS[backend].rotary:
        config.model.pos_embed = "abs"
    if chosen["smoke"]:
        _shrink(config)
    return config


def sequence_section(model_type: str, backend: str) -> ConfigDict:
    """Return config section `model` with every option of the model and of its backend's blocks."""
    known = SEQUENCE_MODELS[model_type].options(backend)
    options = default_values({name: o for name, o in known.items() if name not in _NOT_OPTIONS})
    return ConfigDict({"type": model_type, "backend": backend, **options, **_COMMAND_LINE})


def _apply(config: ConfigDict, settings: dict[str, Any]) -> None:
    for path, value in settings.items():
        section, _, name = path.partition(".")
        update(config[section], {name: value})


# A small network, whatever the task.
_SMOKE_SIZES = {
    "num_blocks": 1,
    "channel_dim": 16,
    "num_heads": 2,
    "num_latents": 8,
    "k": 8,
    "nb_features": 8,
    "num_layers_kv_proj": 0,
    "num_layers_ffn": 0,
    "num_steps": 2,
    "num_latent_updates": 1,
}


def _shrink(config: ConfigDict) -> None:
    """Make the run of a task a matter of seconds on a CPU; the data are generated."""
    task = find_task(config.data.name)
    if config.model.backend == "third_order" and not task.short:
        raise ValueError(
            f"the smoke run of third_order, whose cost is the cube of the length, would take hours on {task.name}; use "
            f"one of the tasks {', '.join(name for name, other in TASKS.items() if other.short)}"
        )
    update(config.data, {"dir": "data/smoke", "source": "generated", "num_generate": 400, "n_test": 64})
    update(config.model, {name: value for name, value in _SMOKE_SIZES.items() if name in config.model})
    if config.model.backend in ("third_order", "quad"):
        config.model.num_heads = 4
    update(config.train, {"epochs": 0, "steps": 20, "batch_size": 8, "dtype": "float32"})
    update(config.eval, {"batch_size": 8, "train_samples": 64, "every": 20})
    config.checkpoint.every = 20
    for section, changes in task.smoke.items():
        update(config[section], dict(changes))

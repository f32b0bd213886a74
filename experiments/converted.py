"""Folders written by `python -m flare_jax.convert`, opened as runs: their configuration and their state.

The first evaluation gives such a folder a config.json like that of a run, with what the original's config says of the
training; its headline metric is that of the raw weights, as in the original.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from data_pipeline.registry import DATASETS
from experiments import workdir
from experiments.defaults import pde_defaults
from experiments.errors import UserError
from experiments.lra.original import converted_config
from experiments.training import hosts
from experiments.training.setup import Setup
from experiments.training.state import TrainState
from flare_jax.convert.descriptions import ModelDescription, SequenceDescription
from flare_jax.convert.folder import DESCRIPTION_FILE, ConvertedModel, is_converted, read_converted

__all__ = ["adopt", "check_step", "is_converted", "load_state"]

# Fields of the original's config that have an option of the same meaning here.
_SAME_MEANING = {
    "epochs": "train.epochs",
    "steps": "train.steps",
    "batch_size": "train.batch_size",
    "clip_grad_norm": "train.clip_norm",
    "ema_decay": "train.ema_decay",
    "learning_rate": "optimizer.learning_rate",
    "weight_decay": "optimizer.weight_decay",
    "opt_beta1": "optimizer.beta1",
    "opt_beta2": "optimizer.beta2",
    "opt_eps": "optimizer.eps",
    "one_cycle_pct_start": "schedule.pct_start",
    "one_cycle_div_factor": "schedule.div_factor",
    "one_cycle_final_div_factor": "schedule.final_div_factor",
    "one_cycle_override_min_lr": "schedule.min_learning_rate",
    "one_cycle_three_phase": "schedule.three_phase",
    "one_cycle_anneal_strategy": "schedule.anneal",
    "one_cycle_cycle_momentum": "schedule.cycle_momentum",
    "one_cycle_base_momentum": "schedule.base_momentum",
    "one_cycle_max_momentum": "schedule.max_momentum",
}
# Choices that have another name here.
_SAME_WORDS = {
    "optimizer": ("optimizer.name", {"adamw": "adamw", "adam": "adamw", "lion": "lion", "muon": "muon"}),
    "schedule": (
        "schedule.name",
        {
            "OneCycleLR": "onecycle",
            "ConstantLR": "constant",
            "CosineAnnealingLR": "cosine",
            "CosineAnnealingWarmRestarts": "cosine_restarts",
        },
    ),
}


def adopt(folder: Path) -> None:
    """Write config.json into a converted folder that has none; leave all other folders alone."""
    if not is_converted(folder):
        return
    with hosts.main_first("converted"):
        if not (folder / workdir.CONFIG_FILE).exists():
            converted = read_converted(folder)
            source = {"converted_from": dict(converted.source)}
            try:
                config = _run_config(folder, converted)
            except (KeyError, TypeError, AttributeError) as error:
                raise UserError(
                    f"{folder / DESCRIPTION_FILE} holds no config of the original that can be used "
                    f"({type(error).__name__}: {error}); convert the checkpoint again"
                ) from error
            workdir.write_config_file(folder, config, source)


def check_step(folder: Path, step: int | None) -> None:
    """Raise UserError if a step is to be chosen in a converted folder, which has none."""
    if step is not None and is_converted(folder):
        raise UserError(
            f"--step={step} chooses among checkpoints, but {folder} holds one converted model; leave it out"
        )


def load_state(setup: Setup, folder: Path) -> TrainState:
    """Return the weights of a converted folder as a state; raises UserError if they do not fit the data set's model."""
    converted = read_converted(folder)
    expected = {name: tuple(shape) for name, shape in setup.packing.shapes.items()}
    for kind, params in converted.weights.items():
        found = {name: np.shape(value) for name, value in params.items()}
        if found != expected:
            different = sorted(name for name in set(found) | set(expected) if found.get(name) != expected.get(name))
            raise UserError(
                f"the {kind} weights of {folder} do not fit the model of this data set, first {different[0]} (stored "
                f"{found.get(different[0])}, model {expected.get(different[0])}); check that the data are those of the "
                "original"
            )
    packed = {
        kind: setup.packing.pack({name: np.asarray(value) for name, value in params.items()}, np)
        for kind, params in converted.weights.items()
    }
    # No training goes on from them, so that they need no state of an optimizer.
    step, key = np.int32(converted.step or 0), jax.random.key(setup.seed)
    return setup.mesh.replicate(TrainState(step, packed["raw"], packed.get("ema", {}), opt_state=(), key=key))


def _run_config(folder: Path, converted: ConvertedModel) -> ConfigDict:
    """Return the configuration of a run that would have given these weights, as far as the original's config says."""
    original = converted.original
    if isinstance(converted.model, SequenceDescription):
        config = converted_config(converted.model, original, converted.weights["raw"])
    else:
        config = _point_config(folder, converted.model, original)
    config.name = folder.name
    with config.unlocked():
        _take_over(config, original)
    has_average = "ema" in converted.weights
    config.train.ema_decay = (config.train.ema_decay or 0.999) if has_average else 0.0
    # Without effect on the evaluation of given weights; the original's may be longer than ours.
    seed = original.get("seed")
    config.train.seeds = (seed % 2**32 if type(seed) is int else 0,)
    config.eval.weights = "raw"
    return config


def _point_config(folder: Path, model: ModelDescription, original: Mapping[str, Any]) -> ConfigDict:
    if not isinstance(original.get("dataset"), str):
        raise UserError(
            f"{folder / DESCRIPTION_FILE} names no data set; convert again with a line 'dataset: NAME' in the config"
        )
    config = pde_defaults(original["dataset"])
    record = DATASETS.get(original["dataset"])
    if record is not None:
        config.data.update({"n_train": record.n_train, "n_test": record.n_test})
    config.model = ConfigDict({"type": model.model_type, **model.options})
    return config


def _take_over(config: ConfigDict, original: Mapping[str, Any]) -> None:
    """Copy numbers and words of the option's own type.

    A list is one value per parameter group, which has no counterpart here.
    """
    for field, option in _SAME_MEANING.items():
        value = original.get(field)
        if value is not None:
            section, name = option.split(".")
            current = config[section][name]
            if isinstance(current, float) and type(value) is int:
                value = float(value)
            if type(value) is type(current):
                config[section][name] = value
    for field, (option, words) in _SAME_WORDS.items():
        value = original.get(field)
        if isinstance(value, str) and value in words:
            section, name = option.split(".")
            config[section][name] = words[value]

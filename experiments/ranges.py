"""What the options of every experiment may be: their types and ranges, and that a configuration has them all."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from ml_collections import ConfigDict

from experiments.cli import flatten
from experiments.defaults import training_defaults
from experiments.errors import UserError
from experiments.model_options import known_options
from flare_jax.options import Option

_MOST = 2**31 - 1  # steps and samples are counted with 32 bits
_NEEDED = ("model.type", *(f"data.{name}" for name in ("name", "dir", "source", "n_train", "n_test")))


def _integer(minimum: int, maximum: int = _MOST) -> dict[str, Any]:
    return {"kinds": (int,), "minimum": minimum, "maximum": maximum}


def _number(**limits: float) -> dict[str, Any]:
    return {"kinds": (float,), **limits}


def _choice(*choices: str) -> dict[str, Any]:
    return {"kinds": (str,), "choices": choices}


_SWITCH = {"kinds": (bool,)}
_TEXT = {"kinds": (str,)}
_SEED = _integer(0, 2**32 - 1)
_FRACTION = _number(minimum=0, below=1)
_RANGES = {
    "train.parallel_seeds": _integer(1),
    "train.epochs": _integer(0),
    "train.steps": _integer(0),
    "train.min_steps": _integer(0),
    "train.batch_size": _integer(1),
    "train.accumulation": _integer(1),
    "train.clip_norm": _number(minimum=0),
    "train.ema_decay": _FRACTION,
    "train.dtype": _choice("float32", "bfloat16"),
    "train.matmul_precision": _choice("default", "high", "highest"),
    "train.init_from": _TEXT,
    "train.init_weights": _choice("", "ema", "raw"),
    "train.init_strict": _SWITCH,
    "train.init_normalizers": _choice("refit", "keep"),
    "train.freeze": _TEXT,
    "train.halt_weight": _number(minimum=0),
    "optimizer.learning_rate": _number(above=0),
    "optimizer.weight_decay": _number(minimum=0),
    "optimizer.beta1": _FRACTION,
    "optimizer.beta2": {"kinds": (float, NoneType), "minimum": 0, "below": 1},
    "optimizer.eps": _number(above=0),
    "optimizer.decay_latents": _SWITCH,
    "optimizer.muon_learning_rate": _number(above=0),
    "optimizer.muon_momentum": _FRACTION,
    "schedule.pct_start": _number(above=0, maximum=1),
    "schedule.div_factor": _number(minimum=1),
    "schedule.final_div_factor": _number(above=0),
    "schedule.min_learning_rate": _number(minimum=0),
    "schedule.three_phase": _SWITCH,
    "schedule.cycle_momentum": _SWITCH,
    "schedule.base_momentum": _FRACTION,
    "schedule.max_momentum": _FRACTION,
    "eval.every": _integer(0),
    "eval.batch_size": _integer(1),
    "eval.weights": _choice("ema", "raw"),
    "eval.simple_predictors": _SWITCH,
    "eval.train_samples": _integer(0),
    "eval.until_halt": _SWITCH,
    "eval.streaming": _SWITCH,
    "checkpoint.every": _integer(0),
    "checkpoint.keep_last": _integer(1),
    "checkpoint.keep_best": _integer(0),
    "mesh.data": _integer(-1),
    "mesh.points": _integer(-1),
    "data.num_generate": _integer(1),
    "data.n_train": _integer(0),
    "data.n_test": _integer(0),
    "data.n_val": _integer(0),
    "data.resolution": _integer(0, 2**14),
    "data.generate_seed": _SEED,
    "data.split_seed": _SEED,
    "data.augment_seed": _SEED,
    "data.side": _integer(2, 421),
    "data.history": _integer(1),
    "data.steps": _integer(1),
    "data.skip_steps": _integer(0),
    "data.max_steps": _integer(2),
    "data.buckets": _integer(1, 2**10),
    "data.memory_gib": _number(minimum=0),
    "data.max_length": _integer(1, 2**20),
    "data.subsample": _integer(0),
    "data.num_augment": _integer(0, 10**6),
    "data.min_rating": _integer(0),
    "data.validation": _FRACTION,
    "data.length": _integer(2, 2**24),
    "data.val_share": _FRACTION,
    "data.test_share": _FRACTION,
    "data.tokenizer": _choice("bytes", "bpe"),
    "data.vocab_size": _integer(4, 2**16),
    "data.pairs": _integer(1),
    "data.reset_documents": _SWITCH,
    "task.gradient_weight": _number(minimum=0),
    "task.noise": _number(minimum=0),
    "task.times_per_step": _integer(0),
    "task.points_per_step": _integer(0),
    "figures": _SWITCH,
}
_OPTIONS = {name: Option(name, default=dataclasses.MISSING, help="", **limits) for name, limits in _RANGES.items()}


def check_complete(config: Any, where: str) -> None:
    """Raise UserError unless `config` has every option that programs read; `where` names its file."""
    if not isinstance(config, ConfigDict):
        raise UserError(f"{where} gives {type(config).__name__} and no configuration; see configs/flare_elas.py")
    needed = [*_NEEDED, *flatten(training_defaults("")), "model", "data"]
    missing = [name for name in needed if _find(config, name) is _ABSENT]
    if missing:
        raise UserError(
            f"{where} lacks {', '.join(missing[:3])}{' and more' if len(missing) > 3 else ''}; begin with "
            "configs.common.pde_config, as configs/flare_elas.py does"
        )
    name = config.name
    if not isinstance(name, str) or not name or name == ".." or Path(name).name != name:
        raise UserError(f"name={name!r} must be a name of a folder; set it to such as flare_elas")


def check_ranges(config: ConfigDict) -> None:
    """Raise ValueError for a value that is of another type or out of range, by itself or beside others."""
    for name, option in _OPTIONS.items():
        value = _find(config, name)
        if value is not _ABSENT:
            option.check(value)
    known = known_options(config.model)
    for name, value in config.model.items():
        largest = known[name].maximum if name in known else None
        if isinstance(value, int | float) and largest is not None and value > largest:
            raise UserError(
                f"model.{name}={value} must be at most {largest}, for no device holds such a model; lower it"
            )
    schedule, peak = config.schedule, config.optimizer.learning_rate
    if schedule.min_learning_rate > peak:
        raise UserError(
            f"schedule.min_learning_rate={schedule.min_learning_rate} is above the peak, "
            f"optimizer.learning_rate={peak}; lower it"
        )
    if schedule.base_momentum > schedule.max_momentum:
        raise UserError(
            f"schedule.base_momentum={schedule.base_momentum} is above "
            f"schedule.max_momentum={schedule.max_momentum}; beta1 falls from the latter to the former and back"
        )


_ABSENT = object()


def _find(config: Any, name: str) -> Any:
    for part in name.split("."):
        if not isinstance(config, Mapping | ConfigDict) or part not in config:
            return _ABSENT
        config = config[part]
    return config

"""Whether a configuration has all options that programs read, and their values are of their types and in range."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from experiments.cli import flatten
from experiments.defaults import training_defaults
from experiments.errors import UserError
from experiments.schema import options_of_config
from experiments.sections import DataOptions
from runtime.options import options_of

_NEEDED = ("model.type", *(f"data.{name}" for name in options_of(DataOptions)))


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
    known = options_of_config(config)
    for name, option in known.items():
        if not name.startswith("model."):  # whose values may be text, and are checked when the model is built
            option.check(_find(config, name))
    for name, value in config.model.items():
        largest = known[f"model.{name}"].maximum if f"model.{name}" in known else None
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

"""Checks of a sequence configuration, before any data is read: ranges, and options that would have no effect."""

from collections.abc import Mapping
from typing import Any

from data_pipeline.sequence.registry import find_task
from experiments.errors import UserError
from experiments.lra.models import has_padding
from experiments.options import check_options

# They decide which other options there are.
_BY_ARGUMENT = ("data.name", "model.type", "model.backend")
_FOR_PADDING = ("masked_pool", "zero_pad_embedding", "ignore_mask", "masked", "masked_ema")


def check_lra_options(config: Any, given: Mapping[str, object]) -> None:
    """Raise UserError for values out of range and for options in `given` that the rest of `config` leaves unused."""
    for name in _BY_ARGUMENT:
        if name in given:
            raise UserError(
                f"option config.{name}={given[name]} cannot be changed by itself; choose task and model by "
                "--config=configs/lra.py:task=<task>,model=<backend>[,trm]"
            )
    check_options(config, given)
    if config.eval.get("until_halt") and not config.train.halt_weight:
        raise UserError("eval.until_halt=True needs a trained halting head; set train.halt_weight above 0")
    for name in given:
        reason = _unused_because(name, config)
        if reason:
            raise UserError(f"option config.{name} has no effect {reason}; leave it out")


def _unused_because(name: str, config: Any) -> str | None:
    """Return why option `name` has no effect in `config`, or None where it has one."""
    section, _, option = name.partition(".")
    if name == "train.init_normalizers":
        return "on token sequences, which are not normalised"
    return {"model": _unused_in_model, "data": _unused_in_data}.get(section, lambda *_: None)(option, config)


def _unused_in_model(option: str, config: Any) -> str | None:
    model, task = config.model, find_task(config.data.name)
    rules = (
        (("pool",), not task.token_level, f"on {task.name}, which has a label for every token"),
        (("masked_pool",), not task.token_level and model.pool != "cls", "without a mean or a maximum over the tokens"),
        (_FOR_PADDING, has_padding(config), f"on {task.name}, where no padding is masked"),
        (("num_heads",), model.backend != "ema", "with model.backend=ema, which has one head"),
    )
    return next((reason for names, used, reason in rules if option in names and not used), None)


def _unused_in_data(option: str, config: Any) -> str | None:
    data, task = config.data, find_task(config.data.name)
    rules = (
        (
            ("augment_seed",),
            data.get("num_augment", 0) > 0 or data.get("subsample", 0) > 0,
            "without data.num_augment and data.subsample",
        ),
        (
            ("num_generate", "generate_seed"),
            data.source == "generated" or not task.stand_in,
            f"with data.source={data.source}, for {task.name} has artificial samples only",
        ),
    )
    return next((reason for names, used, reason in rules if option in names and not used), None)

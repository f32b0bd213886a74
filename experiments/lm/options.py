"""Checks of a language model configuration, before any text is read: ranges, and options without effect."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.errors import UserError
from experiments.options import check_options

_BY_ARGUMENT = ("data.name", "model.type")


def check_lm_options(config: Any, given: Mapping[str, object]) -> None:
    """Raise UserError for values out of range and for options in `given` that the rest of `config` leaves unused."""
    for name in _BY_ARGUMENT:
        if name in given:
            raise UserError(
                f"option config.{name}={given[name]} cannot be changed by itself; choose model and data by "
                "--config=configs/lm.py:model=<model>,size=<size>[,recall]"
            )
    check_options(config, given)
    data = config.data
    if data.name == "text" and not data.path:
        raise UserError("data.path is empty; name a text file or a folder of them, by --config.data.path=FOLDER")
    if data.name == "recall" and not (data.n_train and data.n_test):
        raise UserError("data.n_train and data.n_test are the rows that are made; set both above 0")
    if data.name == "text" and data.val_share + data.test_share >= 1:
        raise UserError(
            f"data.val_share={data.val_share} and data.test_share={data.test_share} leave nothing to train; lower them"
        )
    if config.eval.get("streaming") and config.model.type == "causal_attention":
        raise UserError(
            "eval.streaming=True needs a state of constant size, which softmax attention has not; set False"
        )
    if config.eval.get("streaming") and data.reset_documents:
        raise UserError(
            "eval.streaming=True carries one state through a text, which data.reset_documents=True empties at every "
            "document; set one of them to False"
        )
    for name in given:
        reason = _unused_because(name, config)
        if reason:
            raise UserError(f"option config.{name} has no effect {reason}; leave it out")


def _unused_because(name: str, config: Any) -> str | None:
    """Return why option `name` has no effect in `config`, or None where it has one."""
    data = config.data
    named = bool(data.get("val") or data.get("test"))
    rules = (
        (("train.init_normalizers",), False, "on tokens, which are not normalised"),
        (("data.source",), False, f"on {data.name}, which comes from one place only"),
        (("data.vocab_size",), data.get("tokenizer") != "bytes", "with data.tokenizer=bytes"),
        (("data.val_share", "data.test_share"), not named, "with data.val or data.test"),
        (("data.files",), not Path(data.get("path", "")).is_file(), "where data.path is one file"),
    )
    return next((reason for names, used, reason in rules if name in names and not used), None)

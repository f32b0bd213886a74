"""The options of config section `model`: which there are, what text means, and which have no effect."""

import ast
import contextlib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from experiments.errors import UserError
from flare_jax.models.language import LANGUAGE_MODELS
from flare_jax.models.registry import MODELS
from flare_jax.models.sequence import BACKENDS, SEQUENCE_MODELS
from flare_jax.options import Option, unused_because, without_unused


def program_of(config: ConfigDict) -> str:
    """Return the program that a configuration is for; of the models of sequences only classifiers have a backend."""
    model = config.get("model", {})
    if model.get("type") in LANGUAGE_MODELS:
        return "lm"
    return "lra" if "backend" in model else "pdebench"


def known_options(section: ConfigDict) -> Mapping[str, Option]:
    """Return the options of the model type of a section, and of its backend; nothing for an unknown one."""
    if section.type in LANGUAGE_MODELS:
        return LANGUAGE_MODELS[section.type].options()
    if "backend" not in section:
        return MODELS[section.type].options() if section.type in MODELS else {}
    known = section.type in SEQUENCE_MODELS and section.backend in BACKENDS
    return SEQUENCE_MODELS[section.type].options(section.backend) if known else {}


def option_values(section: ConfigDict) -> dict[str, Any]:
    """Return the options of a section, text as the values that they want; raises UserError for text that does not fit.

    What has no effect beside the other options is left out: a recipe may set it, a command line may not.
    """
    known = known_options(section)
    values = {
        name: _typed(known[name], value) if name in known else value
        for name, value in section.items()
        if name not in ("type", "backend")
    }
    return drop_unused(section, values)


def drop_unused(section: ConfigDict, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values without those of options that have no effect beside the others."""
    if not known_options(section):
        return dict(values)
    if section.type in LANGUAGE_MODELS:
        return without_unused(LANGUAGE_MODELS[section.type].config, values)
    if "backend" not in section:
        return without_unused(MODELS[section.type].config, values)
    values = without_unused(SEQUENCE_MODELS[section.type].config, values)
    return without_unused(BACKENDS[section.backend].config, values)


def why_unused(name: str, section: ConfigDict) -> str | None:
    """Return why option `name` has no effect beside the others of its section, or None where it has one."""
    known = known_options(section)
    reason = unused_because(known[name], section, "model.") if name in known else None
    return None if reason is None else f"with {reason}"


def _typed(known: Option, value: Any) -> Any:
    """Return a value as its option wants it: command lines give text, JSON gives lists."""
    if isinstance(value, list):
        return tuple(value)
    if not isinstance(value, str):
        return value
    if str in known.kinds:
        with contextlib.suppress(ValueError):
            return float(value) if float in known.kinds else value  # 'one', 'sqrt' or a number as text
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError) as error:
        raise UserError(
            f"model.{known.name}={value!r} is not understood; write a value such as (16, 16) or None"
        ) from error

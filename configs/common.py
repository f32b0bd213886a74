"""What config programs share: a configuration with a model, model sections with every option, arguments, updates."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from experiments.defaults import pde_defaults
from experiments.schema import default_values
from flare_jax.models.registry import MODELS
from runtime.words import did_you_mean


def pde_config(dataset: str) -> ConfigDict:
    """Return the defaults of a steady PDE experiment on `dataset`, with model type `flare`."""
    config = pde_defaults(dataset)
    config.model = flare_model()
    return config


def flare_model() -> ConfigDict:
    """Return model type `flare` with the sizes of the original's command line."""
    return model_section("flare", {"channel_dim": 64, "num_blocks": 8, "num_heads": 8, "num_latents": 64})


def model_section(model_type: str, options: Mapping[str, Any] | None = None) -> ConfigDict:
    """Return config section `model` with `options` set and every other option at its default.

    An option whose default is None, or that has none, is an empty place of its type; a tuple is given as text, such as
    "(85, 85)", and "data" takes grid_shape, seq_len, coord_min or coord_scale from the data set.
    """
    if model_type not in MODELS:
        raise ValueError(
            f"model {model_type!r} is not known{did_you_mean(model_type, MODELS)}; choose one of {', '.join(MODELS)}"
        )
    section = {"type": model_type, **default_values(MODELS[model_type].options())}
    given = dict(options or {})
    unknown = sorted(set(given) - set(section))
    if unknown:
        raise ValueError(f"model {model_type!r} has no option {unknown[0]!r}; choose one of {', '.join(section)}")
    section.update({name: value for name, value in given.items() if value is not None})
    return ConfigDict(section)


def parse_argument(argument: str | None, allowed: tuple[str, ...] = ("smoke",)) -> str:
    """Return the variant behind the colon of `--config=path.py:variant`, or the empty string."""
    argument = argument or ""
    if argument and argument not in allowed:
        raise ValueError(f"config variant {argument!r} is not known; choose one of {', '.join(allowed)} or none")
    return argument


def parse_arguments(argument: str | None, *, names: tuple[str, ...], switches: tuple[str, ...]) -> dict[str, Any]:
    """Return what stands behind the colon of `--config=path.py:name=value,switch`, switches as booleans.

    Every name must be given. Raises ValueError, with the form that is expected, for anything else.
    """
    form = ",".join(f"{name}=<{name}>" for name in names) + "".join(f"[,{switch}]" for switch in switches)
    values: dict[str, Any] = dict.fromkeys(switches, False)
    for part in (argument or "").split(","):
        name, equals, value = part.partition("=")
        if not part:
            continue
        if name in values and (name in names or values[name]):
            raise ValueError(f"config argument {name!r} is given twice; write {form}")
        if name in names and equals and value:
            values[name] = value
        elif name in switches and not equals:
            values[name] = True
        else:
            hint = did_you_mean(name, [*names, *switches])
            raise ValueError(f"config argument {part!r} is not understood{hint}; write {form}")
    missing = [name for name in names if name not in values]
    if missing:
        raise ValueError(f"config argument {missing[0]!r} is missing; write {form}")
    return values


def parse_model(argument: str | None, *, default: str) -> tuple[str, str]:
    """Return model type and variant of `--config=path.py:[model=<type>][,smoke]`; raises ValueError."""
    parts = [part for part in (argument or "").split(",") if part]
    if not any(part.startswith("model=") for part in parts):
        parts.insert(0, f"model={default}")
    chosen = parse_arguments(",".join(parts), names=("model",), switches=("smoke",))
    return chosen["model"], "smoke" if chosen["smoke"] else ""


def update(section: ConfigDict, values: dict[str, Any]) -> None:
    """Set existing keys of a section; a key that is not there is an error, not a new option."""
    for key, value in values.items():
        if key not in section:
            raise ValueError(f"option {key!r} does not exist; choose one of {', '.join(section)}")
        section[key] = value

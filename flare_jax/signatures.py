"""Options of a constructor, its keyword-only arguments, checked by name and type before anything is built."""

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from flare_jax.checks import did_you_mean
from flare_jax.options import Config, options_of


def keyword_options(constructor: Callable[..., Any], *, excluded: Sequence[str] = ()) -> dict[str, inspect.Parameter]:
    """Return the keyword-only parameters of a class or function by name, without those `excluded`."""
    parameters = inspect.signature(_function(constructor)).parameters.values()
    keywords = (p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)
    return {p.name: p for p in keywords if p.name not in excluded}


def config_parameters(config: type[Config]) -> dict[str, inspect.Parameter]:
    """Return the options of a class of configurations in the form of `keyword_options`."""
    hints = typing.get_type_hints(config)
    empty = inspect.Parameter.empty
    return {
        name: inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=empty if o.required else o.default, annotation=hints[name]
        )
        for name, o in options_of(config).items()
    }


def check_options(
    owner: str,
    constructors: Sequence[Callable[..., Any]],
    known: Mapping[str, inspect.Parameter],
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the options with integers made floats and lists made tuples where these are wanted.

    `known` are the parameters of the `constructors` that may be set; `owner` names in messages what is built. Raises
    ValueError for an unknown or missing name and for a value whose type does not fit the annotation.
    """
    for name in options:
        if name not in known:
            raise ValueError(
                f"{owner} has no option {name!r}{did_you_mean(name, known)}; its options are {', '.join(known)}"
            )
    missing = [name for name, p in known.items() if p.default is inspect.Parameter.empty and name not in options]
    if missing:
        raise ValueError(f"{owner} needs the option {missing[0]!r}, which has no default; set it")
    hints: dict[str, Any] = {}
    for constructor in constructors:
        hints |= typing.get_type_hints(_function(constructor))
    return {name: _check_type(owner, name, value, hints[name]) for name, value in options.items()}


def _function(constructor: Callable[..., Any]) -> Callable[..., Any]:
    """Return what holds signature and annotations: the initialiser of a class, or the function itself."""
    return constructor.__init__ if isinstance(constructor, type) else constructor


def _check_type(owner: str, name: str, value: Any, hint: Any) -> Any:
    """Return `value`, an integer as float and a list as tuple where only these are wanted; raise if no type fits."""
    accepted = typing.get_args(hint) if _is_union(hint) else (hint,)
    accepted = tuple(typing.get_origin(kind) or kind for kind in accepted)
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        value = value.item()
    if isinstance(value, list) and tuple in accepted:
        value = tuple(value)
    if isinstance(value, int) and not isinstance(value, bool) and float in accepted and int not in accepted:
        return float(value)
    # bool is a subclass of int in Python, but True is no number of blocks.
    if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in accepted):
        names = " or ".join("None" if kind is types.NoneType else kind.__name__ for kind in accepted)
        raise ValueError(
            f"option {name!r} of {owner} is {value!r} of type {type(value).__name__} "
            f"but must be {names}; correct its value"
        )
    return value


def _is_union(hint: Any) -> bool:
    return isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union

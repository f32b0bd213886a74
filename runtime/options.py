"""Options of models, data sets and experiments: frozen dataclasses whose fields carry limits and one line of help.

    @dataclass(frozen=True, kw_only=True)
    class GateConfig(Config):
        num_latents: int = option(help="latents of each head", minimum=1, maximum=MAX_LATENTS)
        gating: bool = option(False, help="multiply the merged heads by a sigmoid gate")
        gate_ratio: float = option(1.0, help="hidden width of the gate over channel_dim", above=0, needs="gating")

Constructors, command line, registries, conversion and tests read the options from there. A group of options that
several models have is a base class of their configurations: a mixer takes that of the whole model as its own.
"""

import dataclasses
import functools
import math
import numbers
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from runtime.words import did_you_mean

_METADATA = "option"
_ABSENT = object()
_C = TypeVar("_C", bound="Config")


@dataclass(frozen=True)
class Option:
    """One option: its name, the types and the range of its values, its default, and what it does in one line.

    `default` is `dataclasses.MISSING` where the option has to be given. `minimum` and `maximum` belong to the range,
    `above` and `below` do not; they hold for numbers and for the entries of tuples, `choices` for text. The option has
    an effect only where the option `needs` is switched on, or, as a pair (name, value), has that value or one of a
    tuple of values, and where `unless`, a pair (name, value), does not hold. `needed` is the option that `needs` names,
    without whose own effect it has none either.
    """

    name: str
    kinds: tuple[Any, ...]
    default: Any
    help: str
    minimum: int | float | None = None
    maximum: int | float | None = None
    above: int | float | None = None
    below: int | float | None = None
    choices: tuple[Any, ...] | None = None
    needs: str | tuple[str, Any] | None = None
    unless: tuple[str, Any] | None = None
    needed: "Option | None" = None

    @property
    def required(self) -> bool:
        """Whether the option has no default."""
        return self.default is dataclasses.MISSING

    @property
    def expected(self) -> str:
        """What values are accepted, in words: 'an integer of at least 1 or None'."""
        parts = [self._in_words(kind) for kind in self.kinds if kind is not types.NoneType]
        return " or ".join(parts + ["None"] * (types.NoneType in self.kinds))

    def check(self, value: Any) -> Any:
        """Return the value, an integer as float, a list as tuple and a NumPy scalar as Python's where these are wanted.

        Raises ValueError, in one sentence with the value and the remedy, for a value of another type or out of range.
        """
        for kind in self.kinds:
            accepted, result = self._accept(kind, _plain(value))
            if accepted:
                return result
        near = did_you_mean(value, [c for c in self.choices or () if c is not None]) if isinstance(value, str) else ""
        raise ValueError(f"{self.name} is {value!r}{near} but must be {self.expected}; set {self.name} accordingly")

    def _accept(self, kind: Any, value: Any) -> tuple[bool, Any]:
        """Return whether the value is of this kind and in range, and the value as that kind."""
        if kind is types.NoneType:
            return value is None, None
        if kind is bool:
            return isinstance(value, bool), value
        if kind is str:
            return isinstance(value, str) and (self.choices is None or value in self.choices), value
        if typing.get_origin(kind) is tuple:
            (entry, *_) = typing.get_args(kind)
            if not isinstance(value, tuple | list):
                return False, None
            entries = [self._accept(entry, _plain(v)) for v in value]
            return all(accepted for accepted, _ in entries), tuple(v for _, v in entries)
        # bool is a subclass of int in Python, but True is no number of blocks.
        number = numbers.Integral if kind is int else numbers.Real
        if not isinstance(value, number) or isinstance(value, bool) or not self._in_range(value):
            return False, None
        try:
            return True, kind(value)
        except OverflowError:  # an integer beyond the range of floats
            return False, None

    def _in_range(self, value: int | float) -> bool:
        return (
            -math.inf < value < math.inf
            and (self.minimum is None or value >= self.minimum)
            and (self.maximum is None or value <= self.maximum)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def _in_words(self, kind: Any) -> str:
        if kind is bool:
            return "True or False"
        if kind is str:
            named = [repr(choice) for choice in self.choices or () if choice is not None]
            return f"one of {', '.join(named)}" if named else "a text"
        if typing.get_origin(kind) is tuple:
            plural = "integers" if typing.get_args(kind)[0] is int else "numbers"
            return f"a tuple of {plural}{self._range_in_words()}"
        if kind is float and self.above == 0:
            return "a positive number" + ("" if self.maximum is None else f" of at most {self.maximum:g}")
        return ("an integer" if kind is int else "a number") + self._range_in_words()

    def _range_in_words(self) -> str:
        low, high = self.minimum, self.maximum
        if self.below is not None:
            return f" of at least {low:g} and below {self.below:g}"
        if low is not None and high is not None:
            return f" of at least {_number(low)} and at most {_number(high)}"
        if low is not None or self.above is not None:
            return f" of at least {_number(low)}" if low is not None else f" above {_number(self.above)}"
        return "" if high is None else f" of at most {_number(high)}"


def option(
    default: Any = dataclasses.MISSING,
    *,
    help: str,
    minimum: int | float | None = None,
    maximum: int | float | None = None,
    above: int | float | None = None,
    below: int | float | None = None,
    choices: Iterable[Any] | None = None,
    needs: str | tuple[str, Any] | None = None,
    unless: tuple[str, Any] | None = None,
) -> Any:
    """Return the field of an option; see `Option` for the arguments. Without a `default` the option has to be given."""
    described = {
        "help": help,
        "minimum": minimum,
        "maximum": maximum,
        "above": above,
        "below": below,
        "choices": None if choices is None else tuple(choices),
        "needs": needs,
        "unless": unless,
    }
    return dataclasses.field(default=default, metadata={_METADATA: described})


@dataclass(frozen=True, kw_only=True)
class Config:
    """Base class of configurations; subclasses are decorated `@dataclass(frozen=True, kw_only=True)`.

    Creating one checks every value, and that no value other than its default is given where it has no effect. It raises
    ValueError in one sentence with the value and the remedy.
    """

    def __post_init__(self) -> None:
        for name, known in options_of(type(self)).items():
            object.__setattr__(self, name, known.check(getattr(self, name)))
        for name, known in options_of(type(self)).items():
            value, reason = getattr(self, name), unused_because(known, self)
            if reason is not None and value != known.default:
                raise ValueError(
                    f"{name} is {value!r} but has no effect with {reason}; leave {name} out or change the other option"
                )
        self.check_together()

    def check_together(self) -> None:
        """Raise ValueError where values that are right by themselves do not go together; subclasses extend it."""

    @classmethod
    def from_mapping(cls: type[_C], values: Mapping[str, Any], *, owner: str) -> _C:
        """Return the configuration with these values; `owner` names in messages what they are for.

        Raises ValueError for an unknown or missing name, and for a value of the wrong type or out of range.
        """
        check_names(owner, options_of(cls), values)
        known = options_of(cls)
        return cls(**{name: known[name].check(value) for name, value in values.items()})

    def replace(self: _C, **values: Any) -> _C:
        """Return the configuration with some values changed, checked like a new one."""
        return dataclasses.replace(self, **values)


@functools.cache
def options_of(config: type[Config]) -> Mapping[str, Option]:
    """Return the options of a class of configurations by name, in their order."""
    hints = typing.get_type_hints(config)
    options = {
        field.name: Option(field.name, _kinds(hints[field.name]), field.default, **field.metadata[_METADATA])
        for field in dataclasses.fields(config)
    }
    for known in options.values():
        for other in (_option_of(known.needs), _option_of(known.unless)):
            if other is not None and other not in options:
                raise TypeError(f"{config.__name__}.{known.name} depends on {other!r}, which is no option of it")
    return types.MappingProxyType({name: _with_needed(known, options) for name, known in options.items()})


def _option_of(condition: str | tuple[str, Any] | None) -> str | None:
    return condition[0] if isinstance(condition, tuple) else condition


def _with_needed(known: Option, options: Mapping[str, Option]) -> Option:
    if known.needs is None:
        return known
    return dataclasses.replace(known, needed=_with_needed(options[_option_of(known.needs)], options))


def declare(**fields: Any) -> Mapping[str, Option]:
    """Return options by name, each written `name=option(default, ...)`; values are of the type of the default."""
    return types.MappingProxyType(
        {
            name: Option(name, (type(field.default),), field.default, **field.metadata[_METADATA])
            for name, field in fields.items()
        }
    )


def check_names(owner: str, known: Mapping[str, Option], values: Mapping[str, Any]) -> None:
    """Raise ValueError for a name in `values` that is no option, and for an option that is missing there."""
    for name in values:
        if name not in known:
            raise ValueError(
                f"{owner} has no option {name!r}{did_you_mean(name, known)}; its options are {', '.join(known)}"
            )
    missing = [name for name, o in known.items() if o.required and name not in values]
    if missing:
        raise ValueError(f"{owner} needs the option {missing[0]!r}, which has no default; set it")


def unused_because(known: Option, values: Any, prefix: str = "") -> str | None:
    """Return why an option has no effect beside the other `values`, as 'gating=False', or None where it has one.

    `values` has the options as attributes; one that it does not have decides nothing. `prefix` goes before names.
    """
    if known.needed is not None and (reason := unused_because(known.needed, values, prefix)):
        return reason
    if known.needs is not None:
        name, wanted = known.needs if isinstance(known.needs, tuple) else (known.needs, None)
        value = getattr(values, name, _ABSENT)
        fits = bool(value) if wanted is None else value in (wanted if isinstance(wanted, tuple) else (wanted,))
        if value is not _ABSENT and not fits:
            return f"{prefix}{name}={value}"
    if known.unless is not None:
        name, excluded = known.unless
        if getattr(values, name, None) == excluded:
            return f"{prefix}{name}={excluded}"
    return None


def defaults_of(options: Mapping[str, Option]) -> dict[str, Any]:
    """Return the default of every option."""
    return {name: known.default for name, known in options.items()}


def without_unused(config: type[Config], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values without those of options that have no effect beside the others."""
    known = options_of(config)
    complete = types.SimpleNamespace(**{name: values.get(name, o.default) for name, o in known.items()})
    return {n: v for n, v in values.items() if n not in known or unused_because(known[n], complete) is None}


def _kinds(hint: Any) -> tuple[Any, ...]:
    """Return the types of a union, integers before floats: 3 is to stay an integer where both are accepted."""
    is_union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    kinds = typing.get_args(hint) if is_union else (hint,)
    return tuple(sorted(kinds, key=lambda kind: kind is float))


def _plain(value: Any) -> Any:
    """Return a NumPy scalar as Python's."""
    is_numpy = type(value).__module__ in ("numpy", "ml_dtypes")
    return value.item() if is_numpy and getattr(value, "ndim", None) == 0 else value


def _number(value: int | float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:g}"

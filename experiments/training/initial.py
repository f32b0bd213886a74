"""Where a training begins: at the parameters of another one, layers of another width excepted; and what stays fixed."""

import fnmatch
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import numpy as np

from experiments.errors import UserError
from experiments.training.packing import Params
from flare_jax.convert.starting import StartingWeights, read_starting_weights
from flare_jax.params import digest

Shapes = Mapping[str, tuple[int, ...]]


def read_start(train: Any) -> StartingWeights | None:
    """Return the weights that config section `train` names, None where it names none; raises ValueError."""
    return read_starting_weights(train.init_from, train.init_weights or None) if train.init_from else None


def start_record(start: StartingWeights) -> dict[str, str]:
    """Return what is written into config.json of where a training began."""
    return {"weights": start.label, "digest": digest(dict(start.params))}


def started(
    params: Params,
    start: StartingWeights,
    config: Any,
    widths: Callable[[], Collection[str]],
    say: Callable[[str], None],
) -> Params:
    """Return new parameters `params` with the values of `start` in place of theirs.

    `widths()` names the parameters whose shapes depend on the numbers of channels or labels of the data: where these
    differ, the layers are left new, which is said, or with `train.init_strict` refused. Raises UserError for weights
    of another model.
    """
    shapes = {name: tuple(value.shape) for name, value in params.items()}
    given = {name: tuple(np.shape(value)) for name, value in start.params.items()}
    differing = sorted(name for name in shapes.keys() | given.keys() if shapes.get(name) != given.get(name))
    if set(differing) - set(widths() if differing else ()):
        raise UserError(_misfit(differing, shapes, given, start, config))
    if differing and config.train.init_strict:
        raise UserError(
            f"train.init_strict=true, but {_change(differing[0], shapes, given)} between {start.label} and this model; "
            "take data with the same channels, or leave train.init_strict out to begin with new layers there"
        )
    # What belongs to the same layer is new too: a bias alone would be none of the new map.
    layers = {name.rpartition(".")[0] for name in differing}
    new = {name for name in shapes if name.rpartition(".")[0] in layers}
    kept = {name: np.asarray(start.params[name], value.dtype) for name, value in params.items() if name not in new}
    taken = jax.device_put(kept)
    text = f"starting from {start.label}: {len(taken)} of {len(shapes)} parameter arrays"
    changes = ", ".join(_change(name, shapes, given) for name in differing)
    say(text + (f"; new layers {', '.join(sorted(layers))}, since {changes}" if differing else ""))
    return {name: taken.get(name, value) for name, value in params.items()}


def differing_names(*abstract: Mapping[str, jax.ShapeDtypeStruct]) -> set[str]:
    """Return the names of parameters whose shapes are not the same in all of these models."""
    names = set().union(*abstract)
    return {name for name in names if len({getattr(one.get(name), "shape", None) for one in abstract}) > 1}


def frozen_names(patterns: str, names: Collection[str]) -> frozenset[str]:
    """Return which parameters stay as they are: those that fit one of the patterns, which are separated by commas.

    `*` stands for any characters, dots included. Raises UserError for a pattern that fits nothing, and where nothing
    would be trained.
    """
    frozen: set[str] = set()
    named = [part for part in map(str.strip, patterns.split(",")) if part]
    for pattern in named or ([patterns] if patterns else []):
        found = {name for name in names if fnmatch.fnmatchcase(name, pattern)}
        if not found:
            some = ", ".join(sorted({name.split(".")[0] for name in names}))
            raise UserError(
                f"train.freeze={pattern} fits no parameter; their names begin with {some}: write such as blocks.*"
            )
        frozen |= found
    if frozen and len(frozen) == len(names):
        raise UserError(f"train.freeze={patterns} fits all {len(names)} parameters, so that nothing would be trained")
    return frozenset(frozen)


def _change(name: str, shapes: Shapes, given: Shapes) -> str:
    return f"{name} was {_shape(given.get(name))}, is {_shape(shapes.get(name))}"


def _shape(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else str(list(shape))


def _misfit(differing: list[str], shapes: Shapes, given: Shapes, start: StartingWeights, config: Any) -> str:
    """Return the sentence about weights that are not those of the configured model."""
    # Biases have the same names in PyTorch, whose matrices are called weight.
    foreign = any(name.endswith(".weight") for name in given) and not any(name.endswith(".weight") for name in shapes)
    if foreign or not set(given) & set(shapes):
        return (
            f"the parameters of {start.label}, such as {min(given)}, have not the names of this model, such as "
            f"{min(shapes)}; take the model of those weights, and convert a checkpoint of the PyTorch original by "
            "python -m flare_jax.convert"
        )
    model = config.model.to_dict()
    plain = {name: _plain(value) for name, value in start.model.items()}
    others = [
        f"--config.model.{name}={value}"
        for name, value in plain.items()
        if name in model and isinstance(value, int | float | str) and _plain(model[name]) != value
    ]
    remedy = f"set {' '.join(others)}" if others else "give the model the options of those weights"
    return (
        f"{len(differing)} parameters of {start.label} do not fit this model, first: "
        f"{_change(differing[0], shapes, given)}; {remedy}"
    )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value

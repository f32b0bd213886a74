"""All models by name, and the one function that builds them from checked options."""

import inspect
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flare_jax.checks import check_choice, check_dtype, check_sizes, did_you_mean
from flare_jax.models.flare import FLARE
from flare_jax.models.flare_ablations import FLAREAblations
from flare_jax.models.flare_experimental import FLAREExperimental


@dataclass(frozen=True)
class ModelEntry:
    """A model class, what it is in one line, and its paper. Options are its keyword-only constructor arguments."""

    constructor: type[nnx.Module]
    summary: str
    paper: str

    def options(self) -> dict[str, inspect.Parameter]:
        """Return the options by name; compute dtype and random streams are arguments of `build_model` instead."""
        parameters = inspect.signature(self.constructor.__init__).parameters.values()
        keywords = (p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)
        return {p.name: p for p in keywords if p.name not in ("dtype", "rngs")}


MODELS: Mapping[str, ModelEntry] = types.MappingProxyType(
    {
        "flare": ModelEntry(FLARE, "gather to and scatter from learned latents, per head", "arXiv 2508.12594"),
        "flare_experimental": ModelEntry(FLAREExperimental, "FLARE under a second name", "arXiv 2508.12594"),
        "flare_ablations": ModelEntry(
            FLAREAblations, "FLARE with shared latents or self-attention among the latents", "arXiv 2508.12594"
        ),
    }
)


def build_model(
    model_type: str,
    in_dim: int,
    out_dim: int,
    options: Mapping[str, Any],
    *,
    rngs: nnx.Rngs,
    dtype: DTypeLike = jnp.float32,
) -> nnx.Module:
    """Build the model `model_type` that maps [B, N, in_dim] to [B, N, out_dim]; `options` go to its constructor.

    Parameters are float32, `dtype` ('float32' or 'bfloat16') is the compute dtype. Raises ValueError, in one sentence
    with the value and the remedy, for an unknown model type, an unknown or missing option, or a value of the wrong
    type or range.
    """
    check_choice("model_type", model_type, MODELS)
    check_sizes(in_dim=in_dim, out_dim=out_dim)
    entry = MODELS[model_type]
    checked = _check_options(model_type, entry, options)
    return entry.constructor(in_dim, out_dim, **checked, dtype=check_dtype(dtype), rngs=rngs)


def _check_options(model_type: str, entry: ModelEntry, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with integers made floats where a float is wanted; raise on names and types."""
    known = entry.options()
    for name in options:
        if name not in known:
            raise ValueError(
                f"model type {model_type!r} has no option {name!r}{did_you_mean(name, known)}; "
                f"its options are {', '.join(known)}"
            )
    missing = [name for name, p in known.items() if p.default is inspect.Parameter.empty and name not in options]
    if missing:
        raise ValueError(f"model type {model_type!r} needs the option {missing[0]!r}, which has no default; set it")
    hints = typing.get_type_hints(entry.constructor.__init__)
    return {name: _check_type(model_type, name, value, hints[name]) for name, value in options.items()}


def _check_type(model_type: str, name: str, value: Any, hint: Any) -> Any:
    """Return `value`, as a float if it is an integer and `hint` has float but not int; raise if no type fits."""
    accepted = typing.get_args(hint) if _is_union(hint) else (hint,)
    accepted = tuple(typing.get_origin(kind) or kind for kind in accepted)
    if isinstance(value, int) and not isinstance(value, bool) and float in accepted and int not in accepted:
        return float(value)
    # bool is a subclass of int in Python, but True is no number of blocks.
    if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in accepted):
        names = " or ".join("None" if kind is types.NoneType else kind.__name__ for kind in accepted)
        raise ValueError(
            f"option {name!r} of model type {model_type!r} is {value!r} of type {type(value).__name__} "
            f"but must be {names}; correct its value"
        )
    return value


def _is_union(hint: Any) -> bool:
    return isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union

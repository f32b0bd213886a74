"""PyTorch state_dict ↔ flat parameter dictionary, in both directions and without PyTorch.

Leaf rules: a linear `weight` [C_out, C_in] is our `kernel` transposed (convolutions: spatial axes first, then input and
output channels), a norm's `weight` is our `scale`, and an embedding's is our `embedding`; all else is copied.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from flare_jax.checks import check_choice
from flare_jax.convert.mappings import TORCH_MAPPINGS, TorchMapping, has_identity, is_unsaved, is_unused, torch_path

_LEAF_NAMES = {"kernel": "weight", "scale": "weight", "embedding": "weight"}
# Axes that turn one of our kernels into PyTorch's layout, by rank: linear, then convolutions along 1, 2 and 3 axes.
_KERNEL_AXES = {2: (1, 0), 3: (2, 1, 0), 4: (3, 2, 0, 1), 5: (4, 3, 0, 1, 2)}
_WRAPPER_PREFIXES = ("_orig_mod.", "module.")
_LISTED_KEYS = 8


class StateDictMismatch(ValueError):
    """A state_dict and a model do not fit; `problems` maps missing, unmatched and misshapen to all such keys."""

    def __init__(self, message: str, problems: Mapping[str, Sequence[str]]) -> None:
        super().__init__(message)
        self.problems = problems


def from_torch(model_type: str, template: Mapping[str, Any], state_dict: Mapping[str, np.ndarray]) -> dict[str, Array]:
    """Return the parameters stored in a PyTorch `state_dict` of numpy arrays.

    `template` is the parameter dictionary of a model built with the checkpoint's options; only the shapes and dtypes of
    its leaves are used, so `jax.ShapeDtypeStruct` leaves do. What the original does not save (the random features of
    performer) is taken from the state_dict if it is there and else from the template, which then needs values of it.
    Prefixes of compiled and data-parallel models are stripped. Raises StateDictMismatch, a ValueError naming the keys,
    if any is missing, unmatched or has another shape; nothing partial is returned.
    """
    mapping = _find_mapping(model_type)
    state = {name: value for name, value in strip_prefixes(state_dict).items() if not is_unused(name, mapping)}
    state = _unsaved_values(template, mapping) | state
    names = {ours: _torch_name(ours, mapping) for ours in template}
    missing = sorted(set(names.values()) - set(state))
    unmatched = sorted(set(state) - set(names.values()))
    misshapen = []
    params: dict[str, Array] = {}
    for ours, theirs in names.items():
        if theirs not in state:
            continue
        leaf, value = template[ours], _to_our_layout(ours, np.asarray(state[theirs]))
        if not jnp.issubdtype(value.dtype, jnp.floating):
            raise ValueError(
                f"{theirs} of the state_dict has dtype {value.dtype}, but weights are real numbers; save them as "
                "float32"
            )
        if value.shape == leaf.shape:
            value = value - np.eye(*value.shape, dtype=value.dtype) if has_identity(ours, mapping) else value
            params[ours] = jax.device_put(np.asarray(value, leaf.dtype))
        else:
            wanted = _torch_shape(ours, leaf.shape)
            misshapen.append(f"{theirs} (stored {np.shape(state[theirs])}, model {wanted})")
    problems = {"missing": missing, "unmatched": unmatched, "misshapen": misshapen}
    if any(problems.values()):
        listed = "; ".join(f"{len(keys)} {kind} keys: {_list_keys(keys)}" for kind, keys in problems.items() if keys)
        raise StateDictMismatch(
            f"the state_dict does not fit this {model_type!r} model, {listed}; {_remedy(problems, mapping)}", problems
        )
    return params


def to_torch(model_type: str, params: Mapping[str, Any], *, differences: bool = False) -> dict[str, np.ndarray]:
    """Return parameters under PyTorch names and layouts; what the original does not save is left out.

    `differences` is for what has the structure of parameters without being any, such as gradients: where we store W − I
    of a weight W, parameters get the identity back, differences do not.
    """
    mapping = _find_mapping(model_type)

    def convert(ours: str, value: np.ndarray) -> np.ndarray:
        if has_identity(ours, mapping) and not differences:
            value = value + np.eye(*value.shape, dtype=value.dtype)
        return _to_torch_layout(ours, value)

    return {
        _torch_name(ours, mapping): convert(ours, np.asarray(value))
        for ours, value in params.items()
        if not is_unsaved(ours, mapping)
    }


def strip_prefixes(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries without any number of leading `_orig_mod.` and `module.`; raise if two names then coincide."""
    stripped: dict[str, Any] = {}
    for key, value in state_dict.items():
        name = key
        while name.startswith(_WRAPPER_PREFIXES):
            name = name.split(".", 1)[1]
        if name in stripped:
            raise ValueError(f"the state_dict holds {name!r} twice, with and without a prefix; remove one of them")
        stripped[name] = value
    return stripped


def _unsaved_values(template: Mapping[str, Any], mapping: TorchMapping) -> dict[str, np.ndarray]:
    """Return what the original does not save, where the template has values of it, under PyTorch names and layouts."""
    return {
        _torch_name(ours, mapping): _to_torch_layout(ours, np.asarray(value))
        for ours, value in template.items()
        if is_unsaved(ours, mapping) and not isinstance(value, jax.ShapeDtypeStruct)
    }


def _remedy(problems: Mapping[str, Sequence[str]], mapping: TorchMapping) -> str:
    if problems["missing"] and all(is_unsaved(key, mapping) for keys in problems.values() for key in keys):
        return (
            "the original does not save these random features, so add them from the model in memory, or draw new ones "
            "(--random-features=SEED), which changes the predictions"
        )
    return "build the model with the options that the checkpoint was trained with"


def _find_mapping(model_type: str) -> TorchMapping:
    check_choice("model_type", model_type, TORCH_MAPPINGS)
    return TORCH_MAPPINGS[model_type]


def _torch_name(ours: str, mapping: TorchMapping) -> str:
    *parents, leaf = torch_path(ours, mapping).split(".")
    return ".".join([*parents, _LEAF_NAMES.get(leaf, leaf)])


def _is_kernel(ours: str) -> bool:
    return ours.rsplit(".", 1)[-1] == "kernel"


def _to_torch_layout(ours: str, value: np.ndarray) -> np.ndarray:
    return value.transpose(_KERNEL_AXES[value.ndim]) if _is_kernel(ours) else value


def _to_our_layout(ours: str, value: np.ndarray) -> np.ndarray:
    # A weight of impossible rank is left as it is, for the comparison of shapes to report.
    if not _is_kernel(ours) or value.ndim not in _KERNEL_AXES:
        return value
    return value.transpose(np.argsort(_KERNEL_AXES[value.ndim]))


def _torch_shape(ours: str, shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(shape[axis] for axis in _KERNEL_AXES[len(shape)]) if _is_kernel(ours) else tuple(shape)


def _list_keys(keys: list[str]) -> str:
    rest = f" and {len(keys) - _LISTED_KEYS} more" if len(keys) > _LISTED_KEYS else ""
    return ", ".join(keys[:_LISTED_KEYS]) + rest

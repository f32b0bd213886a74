"""Models as flat dictionaries of parameters: what training, checkpoints and conversion work on."""

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array

Params = dict[str, Array | jax.ShapeDtypeStruct]


class Matrix(nnx.Param):
    """The kernel of a linear map, [C_in, C_out] or for a convolution [width, .., C_in, C_out].

    Optimizers that treat matrices as a whole take these parameters, and not others which happen to have several axes:
    temperatures, tokens, filters of single channels, stacks of small matrices.
    """


def split(model: nnx.Module) -> tuple[nnx.GraphDef, Params]:
    """Return the structure of a model and its parameters by path, such as 'blocks.0.att.k_proj.fc1.kernel'.

    The dictionary is sorted by name, which is also the leaf order that JAX gives it. Abstract models from
    `nnx.eval_shape` give `jax.ShapeDtypeStruct` leaves. Raises ValueError if the model holds variables that are not
    parameters (random streams, caches), because they would be lost.
    """
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    others = _flatten(nnx.to_pure_dict(rest))
    if others:
        raise ValueError(
            f"the model holds variables that are not nnx.Param and would be lost: {', '.join(sorted(others))}; "
            "pass them as arguments of the call instead"
        )
    flat = _flatten(nnx.to_pure_dict(params))
    return graphdef, {name: flat[name] for name in sorted(flat)}


def merge(graphdef: nnx.GraphDef, params: Mapping[str, Any]) -> nnx.Module:
    """Return the model of this structure with these parameters; inside `jax.jit` this costs tracing time only."""
    nested: dict[str | int, Any] = {}
    for name, value in params.items():
        # Elements of an nnx.List have integer keys.
        *parents, leaf = (int(part) if part.isdigit() else part for part in name.split("."))
        node = nested
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return nnx.merge(graphdef, nested)


def matrix_names(graphdef: nnx.GraphDef, params: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of the parameters that are a `Matrix`."""
    return frozenset(_flatten(nnx.to_pure_dict(nnx.state(merge(graphdef, params), Matrix))))


def apply_fn(graphdef: nnx.GraphDef) -> Callable[..., Any]:
    """Return the pure function `(params, *inputs, **options) -> model(*inputs, **options)`; the caller jits it."""

    def apply(params: Mapping[str, Any], *inputs: Any, **options: Any) -> Any:
        return merge(graphdef, params)(*inputs, **options)

    return apply


def count_parameters(params: Mapping[str, Any]) -> int:
    """Return the number of scalars in a dictionary of parameters."""
    return sum(math.prod(value.shape) for value in jax.tree.leaves(params))


def digest(tree: Any) -> str:
    """Return a SHA-256 over the paths, shapes, dtypes and bytes of all arrays of a tree."""
    result = hashlib.sha256()
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    for (path, _), value in zip(leaves, jax.device_get([leaf for _, leaf in leaves]), strict=True):
        array = np.asarray(value)
        result.update(f"{jax.tree_util.keystr(path)}{array.shape}{array.dtype}".encode())
        result.update(np.ascontiguousarray(array).tobytes())
    return result.hexdigest()


def _flatten(tree: Mapping[str | int, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of a nested dictionary by their dotted path."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat

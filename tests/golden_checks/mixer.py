"""Golden files of single mixers of FLARE++'s backbone: outputs, gradients through the converter, diagnostics."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from flare_jax.convert import from_torch
from flare_jax.convert.originals import find_original
from flare_jax.mixers.backbone_mixers import MIXERS, make_mixer
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import merge, split
from tests.golden_checks import models
from tests.golden_checks.core import Comparison
from tests.golden_checks.statistics import compare_statistics

_PREFIX = "blocks.0.mixer."
_PARAMETERS = ("param/", "grad_param/")


class _Block(nnx.Module):
    def __init__(self, att: nnx.Module):
        self.att = att


class _Alone(nnx.Module):
    """A mixer whose parameters are named as those of a model's first block, for the converter."""

    def __init__(self, att: nnx.Module):
        self.blocks = nnx.List([_Block(att)])

    def __call__(self, x: jax.Array, uniforms: Sequence[jax.Array] = ()) -> jax.Array:
        return self.blocks[0].att(x, None, None, *uniforms)


def check(arrays: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> list[Comparison]:
    """Compare the mixer that `config` describes with the outputs, gradients and diagnostics of the file."""
    kind, arguments = config["model"], {"in_dim": 1, "out_dim": 1, **config["args"]}
    original = find_original("mixer_backbone", arguments)
    _, _, options = original.translate(arguments)
    chosen, _ = MIXERS[kind]

    def build() -> nnx.Module:
        return _Alone(make_mixer(kind, chosen.from_mapping(options, owner=f"mixer {kind!r}"), rngs=ParameterKeys(0)))

    graphdef, template = split(nnx.eval_shape(build))
    named = {_in_a_block(name): value for name, value in arrays.items()}
    unused = [_PREFIX + name for name in config.get("params_without_grad") or ()]
    compared = models.compare(original.model_type, graphdef, template, named, {**config, "params_without_grad": unused})
    if not config.get("diagnostics"):
        return compared
    params = from_torch(original.model_type, template, models.section(named, "param/"))
    find = jax.jit(lambda params, x: merge(graphdef, params).blocks[0].att.statistics(x))
    statistics = find(params, jnp.asarray(arrays["input/x"]))
    return [*compared, *compare_statistics({"mixer": statistics}, config["diagnostics"])]


def _in_a_block(name: str) -> str:
    """Return the name of an array, of a parameter or gradient that of the mixer in the first block."""
    prefix = next((prefix for prefix in _PARAMETERS if name.startswith(prefix)), None)
    return name if prefix is None else f"{prefix}{_PREFIX}{name.removeprefix(prefix)}"

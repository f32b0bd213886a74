"""Golden files of TS3's attention on a structured grid alone: its outputs, and all gradients through the converter."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from flare_jax.mixers.learned_slice_attention import MixedSliceAttention, MixedSliceConfig
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import split
from tests.golden_checks import models
from tests.golden_checks.core import Comparison

PREFIX = "blocks.0.att."
_PARAMETERS = ("param/", "grad_param/")


class _Block(nnx.Module):
    def __init__(self, att: MixedSliceAttention):
        self.att = att


class _AttentionOfOneBlock(nnx.Module):
    """The attention at its place in a model, where the converter knows the names of its parameters."""

    def __init__(self, att: MixedSliceAttention):
        self.blocks = nnx.List([_Block(att)])

    def __call__(self, x: Float[Array, "B N C"]) -> Float[Array, "B N C"]:
        return self.blocks[0].att(x)


def check(arrays: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> list[Comparison]:
    """Compare the attention built from `config["args"]` with the outputs and gradients of the file."""
    args = config["args"]

    def build() -> nnx.Module:
        att = MixedSliceAttention(
            args["hidden_dim"],
            MixedSliceConfig(
                num_heads=args["num_heads"],
                num_slices=args["num_slices"],
                qk_norm=args.get("qk_norm", False),
                grid_shape=(args["H"], args["W"]),
            ),
            rngs=ParameterKeys(0),
        )
        return _AttentionOfOneBlock(att)

    named = {_placed(name): value for name, value in arrays.items()}
    without = [PREFIX + name for name in config.get("params_without_grad") or ()]
    if args.get("qk_norm", False) and str(config.get("origin", "")).startswith("reference"):
        named = _with_correct_count(named, args)
    return models.compare(
        "ts3_uncond", *split(nnx.eval_shape(build)), named, {**config, "params_without_grad": without}
    )


def _placed(name: str) -> str:
    """Return the name of an array as it would be in the file of a whole model."""
    section = next((section for section in _PARAMETERS if name.startswith(section)), None)
    if section is None:
        return "cotangent" if name == "cotangent/out" else name
    return section + PREFIX + name.removeprefix(section)


def _with_correct_count(arrays: Mapping[str, np.ndarray], args: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return arrays for which the division by the number of points gives what the reference's by channels gave.

    With `qk_norm` the reference divides by the number of channels (docs/original.md, D12). The scores are linear in the
    mixing matrix, so that it takes the quotient of the two numbers.
    """
    name = f"{PREFIX}mix.weights"
    factor = args["H"] * args["W"] / args["hidden_dim"]
    scaled = {f"param/{name}": factor, f"grad_param/{name}": 1 / factor}
    return {key: value * np.float32(scaled[key]) if key in scaled else value for key, value in arrays.items()}

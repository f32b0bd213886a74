"""`--mode=analyze` of FLARE++ and its rivals: what the mixers of a trained model say of themselves on its test sets."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from experiments.pdebench.analyze import batches_of
from experiments.training import hosts
from experiments.training.setup import Setup
from experiments.training.state import TrainState
from flare_jax.params import apply_fn
from runtime.json_files import write_json

Arrays = Mapping[str, np.ndarray]


def write_statistics(
    graphdef: nnx.GraphDef, setup: Setup, state: TrainState, config: ConfigDict, folder: Path
) -> dict[str, Any]:
    """Write `analysis/<test>_mixers.json` of the run for every test set and return their contents.

    Each holds the statistics of every block and their mean over blocks, averaged over the samples, with the weights of
    the headline metric; null stands for what a model has not.
    """
    output = folder / "analysis"
    output.mkdir(exist_ok=True)
    params = setup.weights(state)[config.eval.weights]
    contents = {}
    for name, arrays in setup.task.tests.items():
        statistics = mixer_statistics(graphdef, params, arrays, config.eval.batch_size)
        contents[name] = {"weights": config.eval.weights, "step": int(state.step), **statistics}
        if hosts.is_main():
            write_json(output / f"{name}_mixers.json", contents[name])
        listed = ", ".join(f"{key} {value:.3g}" for key, value in statistics["mean"].items() if value is not None)
        hosts.say(f"{name}: {listed}")
    return contents


def mixer_statistics(graphdef: nnx.GraphDef, params: Mapping[str, Any], arrays: Arrays, size: int) -> dict[str, Any]:
    """Return the statistics of `blocks` and their `mean`, averaged over the samples, `size` of which go at a time."""
    apply = apply_fn(graphdef)
    run = jax.jit(lambda params, x, mask: apply(params, x, mask, return_statistics=True)[1])
    sizes, found = [], []
    for x, mask in batches_of(arrays, size):
        sizes.append(len(x))
        found.append(jax.device_get(run(params, jnp.asarray(x), None if mask is None else jnp.asarray(mask))))
    mean = jax.tree.map(lambda *values: float(np.average(values, weights=sizes)), *found)
    return jax.tree.map(lambda value: None if math.isnan(value) else value, mean)

"""Golden files of the models of additive manufacturing: graph networks, losses on active nodes, time marching."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from data_pipeline.additive.samples import SCALE
from data_pipeline.additive.series import fill_sources
from data_pipeline.graphs import by_target
from experiments.training import losses
from experiments.training.tasks import layer_metrics
from experiments.training.tasks.layer_series import march
from flare_jax.convert.originals import find_original
from flare_jax.models import build_model
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import split
from tests.golden_checks import models
from tests.golden_checks.core import Comparison, largest_entry, largest_error


def check_mesh_graph_net(arrays: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> list[Comparison]:
    """Compare outputs and gradients of a graph network, whose edges ours takes in the order of their targets."""
    index = arrays["input/edge_index"]
    order = by_target(index)
    batched = {
        name: array if name.startswith(("param/", "grad_param/")) else array[None] for name, array in arrays.items()
    }
    del batched["input/edge_index"]
    for name in ("input/edge_attr", "grad_input/edge_attr"):
        batched[name] = arrays[name][order][None]
    batched["input/edges"] = index.T[order][None].astype(np.int32)
    # The files say at which end messages are summed; without a word it is the correct one.
    original = find_original("mesh_graph_net")
    in_dim, out_dim, options = original.translate({"aggregate": "target", **config["args"]})
    build = nnx.eval_shape(lambda: build_model("mesh_graph_net", in_dim, out_dim, options, rngs=ParameterKeys(0)))
    with jax.default_matmul_precision("highest"):
        return models.compare("mesh_graph_net", *split(build), batched, config)


def check_masked_loss(arrays: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> list[Comparison]:
    """Compare the loss on active nodes and the original's, of graphs of different sizes in one padded batch."""
    count = config["args"]["graphs"]
    most = max(len(arrays[f"input/target_{i}"]) for i in range(count))

    def batch(name: str) -> jax.Array:
        parts = [arrays[f"input/{name}_{i}"] for i in range(count)]
        return jnp.asarray(np.stack([np.pad(p, [(0, most - len(p))] + [(0, 0)] * (p.ndim - 1)) for p in parts]))

    prediction, target, active = (batch(name) for name in ("prediction", "target", "mask"))
    real = jnp.asarray(np.arange(most) < np.array([[len(arrays[f"input/target_{i}"])] for i in range(count)]))
    valid = np.array([arrays[f"input/t_{i}"] <= arrays[f"input/T_{i}"] - 1e-5 for i in range(count)])

    @jax.jit
    def evaluate(prediction: jax.Array, target: jax.Array, active: jax.Array, real: jax.Array) -> tuple[Any, Any]:
        return (
            losses.mean_squared_error(prediction, target, active),
            losses.original_masked_error(prediction, target, active, real),
        )

    correct, original = evaluate(prediction, target, active, real)
    ours, original = np.asarray(correct)[valid].mean(), np.where(valid, original, 0).mean()
    found = {"correct": ours, "reference": original}
    return [_relative(name, value, arrays[f"output/{name}"], 1e-5) for name, value in found.items()]


def check_rollout(arrays: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> list[Comparison]:
    """Compare a march with a linear model, and its errors step by step, over all nodes and over those there."""
    pos, zmax = arrays["input/pos"], arrays["input/zmax"]
    tolerance, first = config["args"]["tol"], config["args"]["first_predicted"]
    fills, below = config["args"]["fill_new_layer"], np.arange(len(pos))
    for step in range(len(zmax) - 1 if fills else 0):
        new, sources = fill_sources(pos, zmax, step)
        below[new] = sources
    active = pos[:, 2] <= zmax[:, None] + tolerance
    batch = {
        "y": jnp.asarray(np.moveaxis(arrays["input/fields"], 0, 1)[None]),
        "layer": jnp.asarray(np.where(active.any(0), active.argmax(0), len(zmax))[None]),
        "below": jnp.asarray(below[None]),
        "steps": jnp.array([len(zmax)]),
    }
    places = jnp.asarray((pos / SCALE)[None], jnp.float32)

    def step(state: jax.Array, there: jax.Array) -> jax.Array:
        return jnp.concatenate([places, state], axis=-1) @ arrays["param/W"] + arrays["param/b"]

    @jax.jit
    def evaluate(batch: dict[str, jax.Array]) -> tuple[jax.Array, dict[str, jax.Array]]:
        found = march(step, batch, first=first, fill_new_layer=fills)
        counted = layer_metrics.counted_entries(batch, first)
        everywhere = jnp.broadcast_to(counted.any(axis=1, keepdims=True), counted.shape)
        metrics = {}
        for prefix, entries in (("", everywhere), ("active_", counted)):
            sums = layer_metrics.sums_of_squares(found, batch["y"], entries, (1, 3))
            metrics |= {f"{prefix}{name}": metric(sums)[0] for name, metric in _MARCH_METRICS.items()}
        return jnp.moveaxis(found[0], 1, 0), metrics

    with jax.default_matmul_precision("highest"):
        found, metrics = evaluate(batch)
    # The files hold 0 and 1 for steps that are given; ours leave them out.
    return [
        _relative("prediction", found, arrays["output/prediction"], 1e-5),
        *(
            _relative(name, np.asarray(values)[first:], arrays[f"output/{name}"][first:], 1e-4)
            for name, values in metrics.items()
            if f"output/{name}" in arrays
        ),
    ]


_MARCH_METRICS = {
    "mse": layer_metrics.mean_square,
    "r2": layer_metrics.explained,
    "rel_l2": layer_metrics.relative_error,
}


def _relative(name: str, actual: Any, expected: np.ndarray, tolerance: float) -> Comparison:
    return Comparison(name, "output", largest_error(actual, expected), tolerance * largest_entry(expected))


CHECKS = {
    "mesh_graph_net": check_mesh_graph_net,
    "masked_loss": check_masked_loss,
    "rollout": check_rollout,
}

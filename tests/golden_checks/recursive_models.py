"""Golden files of the tiny recursive model: besides the prediction, its first step and the losses of all steps."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from flare_jax.convert import to_torch
from flare_jax.models.sequence.recursion import IGNORE_INDEX
from flare_jax.params import merge
from tests.golden_checks import sequence_models
from tests.golden_checks.core import Comparison
from tests.golden_checks.sequence_models import compare_gradients, compare_output, load_model, model_inputs, section


def check(arrays: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> list[Comparison]:
    """Compare the prediction, one deep recursion, and the losses of supervised steps with the parameters held fixed."""
    model_type, graphdef, params = load_model(arrays, config)
    ids, _ = model_inputs(arrays)
    labels = jnp.asarray(arrays["input/labels"]) if "input/labels" in arrays else None

    losses, state, gradients, first = [], _initial_state(graphdef, params, ids), {}, None
    for _ in range(1 if labels is None else len(arrays["output/step_losses"])):
        (loss, recursion), gradients = _supervise(graphdef, params, ids, labels, state)
        first, state = first or recursion, recursion.state
        losses.append(loss)
    found = {"y": first.state.y, "z": first.state.z, "cls_logits": first.logits, "halt_logits": first.halt_logits}
    compared = sequence_models.check(arrays, config)
    compared += [
        compare_output(f"step0/{name}", found[name], array) for name, array in section(arrays, "step0/").items()
    ]
    if labels is None:
        return compared
    expected = section(arrays, "laststep_grad_param/")
    # The files hold the gradients of some parameters only.
    last = {name: value for name, value in to_torch(model_type, gradients).items() if name in expected}
    return [
        *compared,
        compare_output("step_losses", jnp.stack(losses), arrays["output/step_losses"]),
        *compare_gradients(last, expected, config),
    ]


@functools.partial(jax.jit, static_argnums=0)
def _initial_state(graphdef: nnx.GraphDef, params: Any, ids: jax.Array) -> Any:
    return merge(graphdef, params).initial_state(ids)


@functools.partial(jax.jit, static_argnums=0)
def _supervise(graphdef: nnx.GraphDef, params: Any, ids: jax.Array, labels: jax.Array | None, state: Any) -> Any:
    """Return the loss of one deep recursion, what it gives, and the gradients of the parameters."""

    def loss(params: Any) -> Any:
        recursion = merge(graphdef, params).deep_recursion(ids, state)
        return jnp.zeros(()) if labels is None else cross_entropy(recursion.logits, labels), recursion

    return jax.value_and_grad(loss, has_aux=True)(params)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the mean cross-entropy over all labels but those to ignore."""
    valid = labels != IGNORE_INDEX
    log_probabilities = jax.nn.log_softmax(logits)
    chosen = jnp.take_along_axis(log_probabilities, jnp.where(valid, labels, 0)[..., None], axis=-1)[..., 0]
    return -jnp.sum(jnp.where(valid, chosen, 0)) / valid.sum()

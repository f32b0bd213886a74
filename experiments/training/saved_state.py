"""The tree of arrays that a checkpoint holds of a training state: parameters by their own names, the rest as it is."""

from functools import partial
from typing import Any

import jax
import numpy as np

from experiments.training.mesh import place
from experiments.training.packing import Packed, Packing
from experiments.training.state import TrainState


def to_saved(state: TrainState, packing: Packing) -> dict[str, Any]:
    """Return the tree that is saved: parameters have their own names, so that they can be read without the packing."""
    return {
        "step": state.step,
        "params": packing.unpack_now(state.params),
        "ema": packing.unpack_now(state.ema) if state.ema else {},
        "opt_state": state.opt_state,
        "key": jax.random.key_data(state.key),
    }


def abstract(template: TrainState, packing: Packing) -> dict[str, Any]:
    """Return shapes and placement of the tree that is saved of a state like `template`, whose arrays lie alike."""

    def placed(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=template.step.sharding)

    return jax.tree.map(placed, jax.eval_shape(partial(to_saved, packing=packing), template))


def fetched(state: TrainState, packing: Packing) -> dict[str, Any]:
    """Return the tree that is saved in the memory of the host, fetched as few long vectors and cut there.

    Cut on the device, every parameter would be fetched by itself, which takes longer than all of them together. What
    is spread over several processes stays where it is.
    """
    tree = {"step": state.step, "params": state.params, "ema": state.ema, "opt_state": state.opt_state}
    if not all(leaf.is_fully_addressable for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)):
        return to_saved(state, packing)
    # Copied: on a CPU what is fetched is the array itself, which the next step may write into.
    tree = jax.tree.map(np.array, jax.device_get({**tree, "key": jax.random.key_data(state.key)}))
    unpacked = {name: packing.unpack(tree[name]) if tree[name] else {} for name in ("params", "ema")}
    return {**tree, **unpacked}


def from_saved(saved: dict[str, Any], packing: Packing, sharding: jax.sharding.Sharding) -> TrainState:
    """Return the state of a tree that was saved, with its parameters put together on the host."""

    def packed(params: dict[str, jax.Array]) -> Packed:
        return jax.tree.map(lambda value: place(value, sharding), packing.pack(jax.tree.map(np.asarray, params), np))

    return TrainState(
        step=saved["step"],
        params=packed(saved["params"]),
        ema=packed(saved["ema"]) if saved["ema"] else {},
        opt_state=saved["opt_state"],
        key=jax.random.wrap_key_data(saved["key"]),
    )

"""Golden files of the models of additive manufacturing: graph networks, losses on active nodes, time marching."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from data_pipeline.graphs import by_target
from flare_jax.convert.originals import find_original
from flare_jax.models import build_model
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import split
from tests.golden_checks import models
from tests.golden_checks.core import Comparison


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


CHECKS = {"mesh_graph_net": check_mesh_graph_net}

"""Messages along the edges of padded graphs: which edges count, what they carry, and their sums at the nodes.

The edges of B graphs are one array [B, E, 2], or [B, E, 3] where the last column marks kinds of edges: a source and a
target each. Padding, at the end, names the node `NO_NODE`. Edges sorted by target make sums and their gradients fast.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

Edges = Int[Array, "B E _"]
# What padded edges name: more than any node, so that it sorts behind all of them.
NO_NODE = int(np.iinfo(np.int32).max)


def gather_nodes(
    values: Float[Array, "B N C"], nodes: Int[Array, "B E"], *, ordered: bool = False
) -> Float[Array, "B E C"]:
    """Return the values at one node per edge; padded edges get those of the last node.

    `ordered` says that the nodes of each graph ascend, so that the gradient is a sum over neighbours in memory.
    """
    return jax.vmap(lambda v, index: v.at[index].get(mode="clip", indices_are_sorted=ordered))(values, nodes)


def sum_at_nodes(
    messages: Float[Array, "B E C"], nodes: Int[Array, "B E"], count: int, *, ordered: bool
) -> Float[Array, "B N C"]:
    """Return the sums of messages at the nodes that they go to, of which a graph has `count`.

    Messages of edges that do not count have to be 0. `ordered` says that the nodes of each graph ascend.
    """
    # Padding goes to the last node, where it adds 0 and keeps the order.
    places = jnp.minimum(nodes, count - 1)

    def sums(values: Array, index: Array) -> Array:
        return jax.ops.segment_sum(values, index, count, indices_are_sorted=ordered)

    return jax.vmap(sums)(messages, places)


def edges_between(edges: Edges, mask: Bool[Array, "B N"] | None, count: int) -> Bool[Array, "B E"]:
    """Return which edges join two of the `count` nodes; nodes where `mask` is False have none."""
    ends = edges[..., :2]
    real = jnp.all((ends >= 0) & (ends < count), axis=-1)
    if mask is None:
        return real
    joined = jax.vmap(lambda m, index: jnp.all(m.at[index].get(mode="clip"), axis=-1))(mask, ends)
    return real & joined


def edge_features(
    x: Float[Array, "B N C"], edges: Edges, space_dim: int, mask: Bool[Array, "B N"] | None = None
) -> Float[Array, "B E _"]:
    """Return what an edge carries: the vector from its target to its source, and the mark of its kind if it has one.

    The first `space_dim` channels of x are coordinates. Edges that do not count carry zeros.
    """
    counts = edges_between(edges, mask, x.shape[1])
    places = x[..., :space_dim]
    vectors = gather_nodes(places, edges[..., 0]) - gather_nodes(places, edges[..., 1])
    features = jnp.concatenate([vectors, edges[..., 2:].astype(vectors.dtype)], axis=-1)
    return jnp.where(counts[..., None], features, 0)

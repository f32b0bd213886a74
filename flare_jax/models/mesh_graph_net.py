"""MeshGraphNet: messages along the edges of a mesh (arXiv 2010.03409), as the additive-manufacturing models use it."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from flare_jax.checks import check_dtype, check_points, check_sizes
from flare_jax.layers.fan_in_initialization import draw_fan_in_uniform
from flare_jax.layers.linear import InputLinear, Linear, linear
from flare_jax.layers.norms import LayerNorm
from flare_jax.layers.padding import zero_padding
from flare_jax.layers.segment import edges_between, gather_nodes, sum_at_nodes
from flare_jax.option_groups import blocks, width
from flare_jax.options import MAX_WIDTH, Config, option

AGGREGATES = ("target", "source")


@dataclass(frozen=True, kw_only=True)
class MeshGraphNetConfig(Config):
    """Options of MeshGraphNet."""

    channel_dim: int = width(128)
    num_blocks: int = blocks(15, "rounds of messages: how many edges far a node sees")
    edge_dim: int = option(3, help="features of every edge", minimum=1, maximum=MAX_WIDTH)
    aggregate: str = option(
        "target",
        help="end of an edge at which messages are summed; the original sums at the source",
        choices=AGGREGATES,
    )
    remat: bool = option(True, help="compute messages again in the backward pass instead of storing them")


class NormedMLP(nnx.Module):
    """`norm(fc2(relu(fc1 x)))`; `embedding` says that x are coordinates and the like, for float32 products."""

    def __init__(
        self,
        in_dim: int,
        channel_dim: int,
        *,
        embedding: bool = False,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.dtype = check_dtype(dtype)
        self.fc1 = (
            InputLinear(in_dim, channel_dim, rngs=rngs)
            if embedding
            else Linear(in_dim, channel_dim, dtype=dtype, rngs=rngs)
        )
        self.fc2 = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)
        self.norm = LayerNorm(channel_dim, dtype=dtype)

    def __call__(self, x: Float[Array, "... C_in"]) -> Float[Array, "... C"]:
        """Map the last axis."""
        return self.finish(self.fc1(x))

    def finish(self, hidden: Float[Array, "... C"]) -> Float[Array, "... C"]:
        """Return the output from that of the first linear layer."""
        return self.norm(self.fc2(jax.nn.relu(hidden)))

    def parts(self, channel_dim: int) -> list[Float[Array, "C C"]]:
        """Return the rows of the first kernel that belong to each of several inputs of `channel_dim` channels."""
        return jnp.split(self.fc1.kernel[...], self.fc1.kernel.shape[0] // channel_dim)


class MessageBlock(nnx.Module):
    """One round: new edges from both ends and the old edge, their sums at the nodes, new nodes from these."""

    def __init__(self, config: MeshGraphNetConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        channel_dim = config.channel_dim
        self.aggregate = config.aggregate
        self.edge_mlp = NormedMLP(3 * channel_dim, channel_dim, dtype=dtype, rngs=rngs)
        self.node_mlp = NormedMLP(2 * channel_dim, channel_dim, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "B N C"],
        e: Float[Array, "B E C"],
        edges: Int[Array, "B E _"],
        counts: Bool[Array, "B E"],
    ) -> tuple[Float[Array, "B N C"], Float[Array, "B E C"]]:
        """Return new nodes and edges; edges where `counts` is False send nothing."""
        source, target = edges[..., 0], edges[..., 1]
        # W [x_i, x_j, e] = W1 x_i + W2 x_j + W3 e: a node is multiplied once, not once for every edge.
        at_target, at_source, of_edge = self.edge_mlp.parts(x.shape[-1])
        hidden = gather_nodes(linear(x, at_target, None), target, ordered=True)
        hidden = hidden + gather_nodes(linear(x, at_source, None), source)
        e = e + self.edge_mlp.finish(hidden + linear(e, of_edge, self.edge_mlp.fc1.bias[...]))
        sent = jnp.where(counts[..., None], e, 0).astype(jnp.float32)
        to_target = self.aggregate == "target"
        received = sum_at_nodes(sent, target if to_target else source, x.shape[1], ordered=to_target)
        of_message, of_node = self.node_mlp.parts(x.shape[-1])
        hidden = linear(received.astype(x.dtype), of_message, self.node_mlp.fc1.bias[...]) + linear(x, of_node, None)
        return x + self.node_mlp.finish(hidden), e


class Decoder(nnx.Module):
    """`fc2(relu(fc1 x))`, without a norm."""

    def __init__(self, channel_dim: int, out_dim: int, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.fc1 = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)
        self.fc2 = Linear(channel_dim, out_dim, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "B N C"]) -> Float[Array, "B N C_out"]:
        """Map the last axis."""
        return self.fc2(jax.nn.relu(self.fc1(x)))


class MeshGraphNet(nnx.Module):
    """Encoders of nodes and edges, `num_blocks` rounds of messages, a decoder; parameters as PyTorch initialises them.

    `dtype` is the compute dtype; messages are summed in float32.
    """

    def __init__(
        self, in_dim: int, out_dim: int, config: MeshGraphNetConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
    ):
        check_sizes(in_dim=in_dim, out_dim=out_dim)
        channel_dim, options = config.channel_dim, {"dtype": dtype, "rngs": rngs}
        self.in_dim = in_dim
        self.config = config
        self.dtype = check_dtype(dtype)
        self.node_encoder = NormedMLP(in_dim, channel_dim, embedding=True, **options)
        self.edge_encoder = NormedMLP(config.edge_dim, channel_dim, embedding=True, **options)
        self.blocks = nnx.List([MessageBlock(config, **options) for _ in range(config.num_blocks)])
        self.decoder = Decoder(channel_dim, out_dim, **options)
        draw_fan_in_uniform(self, rngs)

    def __call__(
        self,
        x: Float[Array, "B N C_in"],
        mask: Bool[Array, "B N"] | None = None,
        *,
        edges: Int[Array, "B E _"] | None = None,
        edge_attr: Float[Array, "B E C_edge"] | None = None,
    ) -> Float[Array, "B N C_out"]:
        """Return the prediction in float32.

        `edges` [B, E, 2] are pairs (source, target) sorted by target, padded at the end with
        `flare_jax.layers.segment.NO_NODE` in graphs that have fewer; `edge_attr` are their features, such as
        `edge_features` returns them. Nodes where `mask` is False, with all their edges, are no part of the graph; their
        own outputs are meaningless. Raises ValueError for inputs of other shapes than the model was built for.
        """
        check_points(x, mask, self.in_dim)
        check_edges(edges, edge_attr, x.shape[0], self.config.edge_dim)
        counts = edges_between(edges, mask, x.shape[1])
        x = self.node_encoder(zero_padding(x, mask)).astype(self.dtype)
        # A NaN that an edge of no use carries would reach the gradients of the parameters as 0 · NaN.
        e = self.edge_encoder(jnp.where(counts[..., None], edge_attr, 0)).astype(self.dtype)
        for block in self.blocks:
            apply = jax.checkpoint(block.__call__) if self.config.remat else block
            x, e = apply(x, e, edges, counts)
        return self.decoder(x).astype(jnp.float32)


def check_edges(edges: jax.Array | None, edge_attr: jax.Array | None, batch: int, edge_dim: int) -> None:
    """Raise ValueError unless `edges` and `edge_attr` are those of a batch of graphs with features of this width."""
    if edges is None or edge_attr is None:
        missing = "edges" if edges is None else "edge_attr"
        raise ValueError(
            f"{missing} is None but a graph needs its edges and their features; pass edges [B, E, 2], pairs (source, "
            f"target), and edge_attr [B, E, {edge_dim}]"
        )
    if edges.ndim != 3 or edges.shape[0] != batch or edges.shape[-1] not in (2, 3):
        raise ValueError(
            f"edges has shape {edges.shape} but must be [B, E, 2] with B = {batch}, or [B, E, 3] with a mark; "
            "transpose an edge index [2, E]"
        )
    if not jnp.issubdtype(edges.dtype, jnp.integer):
        raise ValueError(f"edges has dtype {edges.dtype} but must be integers, numbers of nodes; convert it to int32")
    if edge_attr.shape != (*edges.shape[:2], edge_dim):
        raise ValueError(
            f"edge_attr has shape {edge_attr.shape} but must be {(*edges.shape[:2], edge_dim)}, edge_dim={edge_dim} "
            "features for each of the edges; build the model with another edge_dim or pass matching features"
        )

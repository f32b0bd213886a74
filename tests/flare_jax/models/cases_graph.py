"""Cases of models that send messages along the edges of a graph."""

from tests.flare_jax.models.case import Case

CASES = {
    "mesh_graph_net": Case(
        "mesh_graph_net",
        {"channel_dim": 12, "num_blocks": 2, "edge_dim": 4, "aggregate": "source", "remat": False},
        graph=True,
    ),
}

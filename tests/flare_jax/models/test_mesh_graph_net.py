"""MeshGraphNet: the formula, sizes, masks and padding, the order of nodes and edges, both ends of aggregation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from data_pipeline.graphs import EDGE_MULTIPLE, by_target, cut_edges, edges_of_cells, pad_edges
from data_pipeline.graphs import NO_NODE as PADDED_WITH
from flare_jax.layers.segment import NO_NODE, edge_features
from flare_jax.models import build_model
from flare_jax.models.mesh_graph_net import check_edges
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import apply_fn, split
from tests.numerics import assert_close, rms_ratio

OPTIONS = {"channel_dim": 8, "num_blocks": 2, "edge_dim": 3}
NODES = (11, 7)


def perturbed(**options):
    """Return the structure and parameters that are random around 1 for scales and around 0 for all others."""
    build = nnx.eval_shape(lambda: build_model("mesh_graph_net", 3, 2, OPTIONS | options, rngs=ParameterKeys(0)))
    graphdef, template = split(build)
    draw = np.random.default_rng(1).standard_normal
    drawn = {name: name.endswith("scale") + 0.3 * draw(leaf.shape) for name, leaf in template.items()}
    return graphdef, {name: jnp.asarray(np.float32(value)) for name, value in drawn.items()}


def directed(nodes, edges, seed):
    """Return random edges without their reverses, in the order of their targets."""
    generator = np.random.default_rng(seed)
    index = generator.integers(nodes, size=(2, edges))
    return index[:, by_target(index)].astype(np.int32)


@pytest.fixture(scope="module")
def graphs():
    """Return two graphs of different sizes as a batch: x, mask, edges, and the features of the edges."""
    x = np.random.default_rng(2).standard_normal((2, max(NODES), 3)).astype(np.float32)
    mask = np.arange(max(NODES)) < np.array(NODES)[:, None]
    edges = jnp.asarray(pad_edges([directed(NODES[0], 40, 3), directed(NODES[1], 15, 4)]))
    features = jax.jit(edge_features, static_argnums=2)(x, edges, 3)
    return jnp.asarray(x), jnp.asarray(mask), edges, features


@pytest.fixture(scope="module")
def model():
    """Return the jitted model of the tests and its parameters, which the changed inputs share."""
    graphdef, params = perturbed()
    return jax.jit(apply_fn(graphdef)), params


def mlp(params, name, x):
    """Return Linear–ReLU–Linear and the norm where there is one, in float64."""
    hidden = np.maximum(x @ params[f"{name}.fc1.kernel"] + params[f"{name}.fc1.bias"], 0)
    y = hidden @ params[f"{name}.fc2.kernel"] + params[f"{name}.fc2.bias"]
    if f"{name}.norm.scale" not in params:
        return y
    y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-5)
    return y * params[f"{name}.norm.scale"] + params[f"{name}.norm.bias"]


def by_hand(params, x, index, e, aggregate):
    """Return the prediction for one graph, edge by edge, in float64."""
    params = {name: np.asarray(value, np.float64) for name, value in params.items()}
    x, e = mlp(params, "node_encoder", np.float64(x)), mlp(params, "edge_encoder", np.float64(e))
    for block in range(OPTIONS["num_blocks"]):
        received = np.zeros_like(x)
        for number, (j, i) in enumerate(index.T):
            e[number] += mlp(params, f"blocks.{block}.edge_mlp", np.concatenate([x[i], x[j], e[number]]))
        for number, (j, i) in enumerate(index.T):
            received[i if aggregate == "target" else j] += e[number]
        x = x + mlp(params, f"blocks.{block}.node_mlp", np.concatenate([received, x], axis=-1))
    return mlp(params, "decoder", x)


@pytest.mark.parametrize("aggregate", ["target", "source"])
def test_the_formula_in_a_batch_of_two_sizes(graphs, aggregate):
    x, mask, edges, e = graphs
    graphdef, params = perturbed(aggregate=aggregate)
    y = np.asarray(jax.jit(apply_fn(graphdef))(params, x, mask, edges=edges, edge_attr=e))
    for row, (nodes, count) in enumerate(zip(NODES, (40, 15), strict=True)):
        index = np.asarray(edges)[row, :count].T
        expected = by_hand(params, np.asarray(x)[row, :nodes], index, np.asarray(e)[row, :count], aggregate)
        assert_close(f"graph {row}", y[row, :nodes], expected, 1e-5)


def test_a_mask_takes_nodes_and_their_edges_out_of_the_graph(graphs, model):
    """What is masked may hold NaN: the rest is predicted, and learns, as the graph without it."""
    x, _, edges, e = graphs
    apply, params = model
    kept = np.array([0, 2, 3, 4, 6, 8, 9, 10])
    mask = np.isin(np.arange(max(NODES)), kept)[None].repeat(2, axis=0)
    place = np.full(max(NODES), -1)
    place[kept] = np.arange(len(kept))
    ends = np.asarray(edges)
    rows = [row[(row[:, 1] != NO_NODE)] for row in ends]
    inside = [(np.isin(row, kept)).all(axis=1) for row in rows]
    small = pad_edges([place[row[keep]].T for row, keep in zip(rows, inside, strict=True)])
    small_e = np.zeros_like(e)
    for row, keep in enumerate(inside):
        small_e[row, : keep.sum()] = np.asarray(e)[row, : len(keep)][keep]
    poisoned = np.where(mask[..., None], x, np.float32(np.nan))
    bad_edge = jnp.asarray(np.pad(~np.stack([np.pad(k, (0, ends.shape[1] - len(k))) for k in inside]), 0))

    def loss(params, e, x, mask, edges):
        y = apply(params, x, mask, edges=edges, edge_attr=e)
        return jnp.sum(jnp.sin(y) if mask is None else jnp.where(mask[..., None], jnp.sin(y), 0)), y

    differentiate = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))
    (grads, e_grad), y = differentiate(
        params, np.where(bad_edge[..., None], np.float32(np.nan), e), poisoned, mask, edges
    )
    (expected_grads, _), expected = differentiate(params, small_e, np.asarray(x)[:, kept], None, small)
    assert_close("prediction", np.asarray(y)[:, kept], expected, 1e-5)
    assert not np.asarray(e_grad)[np.asarray(bad_edge)].any()
    for name, grad in grads.items():
        assert_close(name, grad, expected_grads[name], 1e-4, absolute=1e-5)


def test_neither_more_padding_nor_the_order_of_edges_changes_anything(graphs, model):
    x, mask, edges, e = graphs
    apply, params = model
    expected = np.asarray(apply(params, x, mask, edges=edges, edge_attr=e))
    more = np.pad(edges, [(0, 0), (0, EDGE_MULTIPLE), (0, 0)], constant_values=NO_NODE)
    padded = apply(
        params,
        np.pad(x, [(0, 0), (0, 5), (0, 0)]),
        np.pad(mask, [(0, 0), (0, 5)]),
        edges=more,
        edge_attr=np.pad(e, [(0, 0), (0, EDGE_MULTIPLE), (0, 0)]),
    )
    assert_close("padded", np.asarray(padded)[:, : max(NODES)][mask], expected[mask], 1e-6)
    nodes = np.random.default_rng(5).permutation(NODES[0])
    place = np.argsort(nodes)
    index = place[np.asarray(edges)[0, :40]].T
    order = by_target(index)
    renamed = pad_edges([index[:, order]])
    features = np.zeros((1, renamed.shape[1], 3), np.float32)
    features[0, :40] = np.asarray(e)[0, :40][order]
    y = apply(params, np.asarray(x)[:1, nodes], None, edges=renamed, edge_attr=features)
    assert_close("renamed", y[0], expected[0, nodes], 1e-5)


def test_computing_messages_again_changes_no_gradient(graphs):
    x, mask, edges, e = graphs

    def gradient(remat):
        graphdef, params = perturbed(remat=remat)
        apply = apply_fn(graphdef)
        return jax.jit(jax.grad(lambda p: jnp.sum(jnp.sin(apply(p, x, mask, edges=edges, edge_attr=e)))))(params)

    kept = gradient(False)
    for name, grad in gradient(True).items():
        assert_close(name, grad, kept[name], 1e-6, absolute=1e-6)


def test_bfloat16_is_close(graphs, model):
    x, mask, edges, e = graphs
    apply, params = model
    half = nnx.eval_shape(lambda: build_model("mesh_graph_net", 3, 2, OPTIONS, rngs=ParameterKeys(0), dtype="bfloat16"))
    y = jax.jit(apply_fn(split(half)[0]))(params, x, mask, edges=edges, edge_attr=e)
    assert y.dtype == jnp.float32
    expected, real = np.asarray(apply(params, x, mask, edges=edges, edge_attr=e)), np.asarray(mask)
    assert 1e-4 < rms_ratio(np.asarray(y)[real], expected[real]) < 5e-2


def test_edges_of_cells():
    """A block of a × b × c cubes has 2[a(b+1)(c+1) + (a+1)b(c+1) + (a+1)(b+1)c] directed edges."""
    a, b, c = 2, 3, 1
    number = np.arange((a + 1) * (b + 1) * (c + 1)).reshape(a + 1, b + 1, c + 1)
    corners = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)]
    cells = np.stack([number[i : i + a, j : j + b, k : k + c].ravel() for i, j, k in corners], axis=-1)
    index = edges_of_cells("hexahedron", cells)
    assert index.shape[1] == 2 * (a * (b + 1) * (c + 1) + (a + 1) * b * (c + 1) + (a + 1) * (b + 1) * c)
    assert (np.diff(index[1]) >= 0).all()
    assert {(j, i) for i, j in index.T} == {(i, j) for i, j in index.T}
    assert edges_of_cells("triangle", np.array([[4, 2, 0]])).T.tolist() == [
        [2, 0], [4, 0], [0, 2], [4, 2], [0, 4], [2, 4],
    ]  # fmt: skip


def test_padding_names_no_node():
    assert PADDED_WITH == NO_NODE
    edges = pad_edges([directed(5, 3 * EDGE_MULTIPLE, 0), directed(5, 10, 0)])
    assert edges.shape == (2, 3 * EDGE_MULTIPLE, 2)
    assert (edges[1, 10:] == NO_NODE).all()
    assert cut_edges(edges[1:]).shape == (1, EDGE_MULTIPLE, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edges": None}, r"edges is None .* pass edges \[B, E, 2\], pairs .*, and edge_attr \[B, E, 3\]"),
        ({"edge_attr": None}, "edge_attr is None"),
        ({"edges": jnp.zeros((2, 2, 40), int)}, r"edges has shape \(2, 2, 40\) .* transpose an edge index"),
        ({"edges": jnp.zeros((2, EDGE_MULTIPLE, 2))}, "edges has dtype float32 but must be integers"),
        ({"edge_attr": jnp.zeros((2, EDGE_MULTIPLE, 4))}, r"edge_attr has shape \(2, 128, 4\) .* edge_dim=3"),
    ],
)
def test_bad_edges(graphs, changes, message):
    _, _, edges, e = graphs
    with pytest.raises(ValueError, match=message) as raised:
        check_edges(**({"edges": edges, "edge_attr": e} | changes), batch=2, edge_dim=3)
    assert "\n" not in str(raised.value)

"""Choice of supernodes, search of their neighbours and their pooling, and the embedding of coordinates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flare_jax.layers import supernodes
from flare_jax.layers.coordinate_embedding import embed_coordinates
from flare_jax.layers.supernode_pooling import SupernodePooling
from flare_jax.parameter_keys import ParameterKeys
from tests.flare_jax.models import naive_upt
from tests.numerics import assert_close

nearest_within = jax.jit(supernodes.nearest_within, static_argnames=("radius", "max_degree"))
spread_supernodes = jax.jit(supernodes.spread_supernodes, static_argnums=(0, 1, 2))
draw_supernodes = jax.jit(supernodes.draw_supernodes, static_argnums=(1, 2, 3))

MASK = np.array([[1, 1, 0, 1, 1, 0, 1, 0, 1], [0, 0, 0, 0, 0, 1, 0, 0, 1]], bool)


def cloud(b=2, n=37, axes=2, spread=30.0):
    """Return random coordinates of the order of `spread`."""
    return jnp.asarray(np.float32(spread * np.random.default_rng(0).standard_normal((b, n, axes))))


def lists(index, exists):
    """Return the indices that exist, as nested lists."""
    return [
        [[int(n) for n in row[found]] for row, found in zip(*s, strict=True)] for s in zip(index, exists, strict=True)
    ]


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize(("radius", "max_degree"), [(12.0, 4), (30.0, 50), (0.001, 3)])
def test_neighbours(axes, radius, max_degree):
    p, chosen = cloud(axes=axes), np.array([[0, 5, 36], [7, 7, 1]])
    index, exists = nearest_within(p, jnp.asarray(chosen), radius=radius, max_degree=max_degree)
    assert index.shape == (2, 3, min(max_degree, 37))
    expected = [
        [naive_upt.neighbours(q, s, radius, max_degree) for s in row]
        for q, row in zip(np.asarray(p, np.float64), chosen, strict=True)
    ]
    assert lists(np.asarray(index), np.asarray(exists)) == expected


def test_neighbours_are_the_same_whatever_is_searched_at_a_time(monkeypatch):
    p, chosen = cloud(), jnp.asarray(np.tile(np.arange(7), (2, 1)))
    together = nearest_within(p, chosen, radius=20.0, max_degree=5)
    monkeypatch.setattr(supernodes, "_DISTANCES_AT_A_TIME", 3 * 37)
    apart = supernodes.nearest_within(p, chosen, radius=20.0, max_degree=5)
    assert all((one == other).all() for one, other in zip(together, apart, strict=True))


def test_equal_distances_are_sorted_by_index():
    p = jnp.array([[[0.0], [1.0], [-1.0], [0.0], [2.0], [1.0]]])
    index, exists = nearest_within(p, jnp.array([[0, 4]]), radius=1.0, max_degree=6)
    assert lists(np.asarray(index), np.asarray(exists)) == [[[0, 3, 1, 2, 5], [4, 1, 5]]]


def test_close_points_far_from_the_origin_are_told_apart():
    """The expanded square |a|² − 2ab + |b|² would lose these distances."""
    p = jnp.array([[[4000.0], [4000.5], [4000.25], [4002.0]]])
    index, exists = nearest_within(p, jnp.array([[0]]), radius=1.0, max_degree=4)
    assert lists(np.asarray(index), np.asarray(exists)) == [[[0, 2, 1]]]


def test_masked_points_are_no_neighbours():
    p = jnp.tile(jnp.arange(9.0)[None, :, None], (2, 1, 1))
    index, exists = nearest_within(p, jnp.array([[1], [5]]), radius=2.0, max_degree=9, mask=jnp.asarray(MASK))
    assert lists(np.asarray(index), np.asarray(exists)) == [[[1, 0, 3]], [[5]]]


@pytest.mark.parametrize(("n", "count"), [(9, 4), (9, 9), (9, 20), (1, 3), (1000, 7)])
def test_supernodes_of_evaluation(n, count):
    index, exists = spread_supernodes(count, 2, n)
    assert np.asarray(exists).all()
    assert (np.asarray(index) == [i * n // min(count, n) for i in range(min(count, n))]).all()


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 9, 12])
def test_supernodes_of_evaluation_with_a_mask_are_those_without_padding(count):
    index, exists = (np.asarray(a) for a in spread_supernodes(count, 2, 9, jnp.asarray(MASK)))
    for b in range(2):
        real = np.flatnonzero(MASK[b])
        alone = np.asarray(spread_supernodes(count, 1, real.size)[0])[0]
        assert index[b][exists[b]].tolist() == real[alone].tolist()


def test_supernodes_of_millions_of_points():
    """The product of index and number of points does not fit into 32 bits."""
    n, count = 3_000_000, 2048
    mask = jnp.ones((1, n), bool)
    expected = np.arange(count) * n // count
    assert (np.asarray(spread_supernodes(count, 1, n)[0])[0] == expected).all()
    assert (np.asarray(spread_supernodes(count, 1, n, mask)[0])[0] == expected).all()


def test_a_sample_without_real_points_has_no_supernodes():
    mask = jnp.zeros((1, 5), bool)
    assert not np.asarray(spread_supernodes(3, 1, 5, mask)[1]).any()
    assert not np.asarray(draw_supernodes(jax.random.key(0), 3, 1, 5, mask)[1]).any()


def test_random_supernodes():
    """They are drawn without replacement, from the real points, differently for every sample and key."""
    index, exists = (np.asarray(a) for a in draw_supernodes(jax.random.key(1), 3, 2, 9, jnp.asarray(MASK)))
    assert exists.sum(1).tolist() == [3, 2]
    for b in range(2):
        chosen = index[b][exists[b]]
        assert len(set(chosen)) == len(chosen)
        assert MASK[b][chosen].all()
    drawn = {
        tuple(np.sort(row)) for k in range(40) for row in np.asarray(draw_supernodes(jax.random.key(k), 2, 2, 4)[0])
    }
    assert len(drawn) == 6, "all pairs of four points occur"


@pytest.mark.parametrize(("channels", "axes"), [(24, 2), (15, 2), (16, 3), (7, 3), (6, 1), (2, 1)])
def test_embedding(channels, axes):
    p = np.asarray(cloud(1, 5, axes, 100.0))
    expected = [[naive_upt.embed(point, channels) for point in p[0].astype(np.float64)]]
    assert_close("embedding", jax.jit(embed_coordinates, static_argnums=1)(p, channels), np.array(expected), 1e-5)


def test_pooling_of_a_supernode_without_real_neighbours_is_zero():
    pooling = SupernodePooling(2, 2, 8, radius=1.0, max_degree=3, rngs=ParameterKeys(0))
    p, pool = cloud(1, 6), jax.jit(pooling)
    assert not np.asarray(pool(p, p, np.array([[0, 3]]), np.zeros((1, 6), bool))).any()
    assert np.asarray(pool(p, p, np.array([[0, 3]]))).any()

"""What is particular to UPT: the choice of supernodes by the caller, at random, and with padding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from flare_jax.params import apply_fn
from tests.flare_jax.models.cases import build_perturbed, inputs
from tests.numerics import assert_close, rms_ratio


@functools.cache
def model():
    """Return the compiled model, its perturbed parameters, and points."""
    graphdef, params = build_perturbed("upt")
    return jax.jit(apply_fn(graphdef)), params, inputs("upt")["x"]


def test_supernodes_of_the_caller():
    """The default choice, given by hand, changes nothing; another does; the order of supernodes has no influence."""
    apply, params, x = model()
    spread = jnp.tile(jnp.array([0, 2, 5, 8]), (2, 1))
    y = apply(params, x)
    assert_close("default", apply(params, x, supernode_idx=spread), y, 1e-6)
    assert_close("reversed", apply(params, x, supernode_idx=spread[:, ::-1]), y, 1e-5)
    assert rms_ratio(apply(params, x, supernode_idx=spread + 1), y) > 1e-3


def test_permuted_points_with_permuted_supernodes():
    apply, params, x = model()
    chosen = np.array([[1, 4, 9], [3, 0, 10]])
    order = np.random.default_rng(0).permutation(11)
    moved = np.argsort(order)[chosen]
    y = apply(params, x, supernode_idx=jnp.asarray(chosen))
    assert_close("permuted", apply(params, x[:, order], supernode_idx=jnp.asarray(moved)), y[:, order], 1e-5)


def test_supernodes_among_the_padding_are_ignored():
    apply, params, x = model()
    mask = jnp.arange(11) < jnp.array([[11], [8]])
    y = apply(params, x, mask, supernode_idx=jnp.array([[1, 4, 9], [1, 4, 9]]))
    alone = apply(params, x[1:], mask[1:], supernode_idx=jnp.array([[1, 4]]))
    assert_close("sample with padding", y[1, :8], alone[0, :8], 1e-5)
    whole = apply(params, x[:1], supernode_idx=jnp.array([[1, 4, 9]]))
    assert_close("sample without", y[0], whole[0], 1e-5)


def test_supernodes_beyond_the_points_are_the_last_point():
    apply, params, x = model()
    y = apply(params, x, supernode_idx=jnp.array([[2, 10], [0, 10]]))
    assert_close("clipped", apply(params, x, supernode_idx=jnp.array([[2, 999], [-5, 10]])), y, 1e-6)


def test_random_supernodes_need_a_key_and_depend_on_it():
    apply, params, x = model()
    first, again, other = (apply(params, x, key=jax.random.key(k)) for k in (0, 0, 1))
    assert_close("same key", first, again, 0.0)
    assert rms_ratio(first, other) > 1e-3
    assert rms_ratio(first, apply(params, x)) > 1e-3


def test_the_prediction_at_a_point_depends_on_its_position_only():
    """Features reach the prediction through the supernodes, so that those of other points have no influence."""
    graphdef, params = build_perturbed("upt", radius=1e-3)
    apply, x = jax.jit(apply_fn(graphdef)), inputs("upt")["x"]
    chosen = jnp.tile(jnp.array([0, 2]), (2, 1))
    y = apply(params, x, supernode_idx=chosen)
    assert_close("other point", apply(params, x.at[:, 1, 2].add(3.0), supernode_idx=chosen), y, 1e-6)
    assert rms_ratio(apply(params, x.at[:, 2, 2].add(3.0), supernode_idx=chosen), y) > 1e-3

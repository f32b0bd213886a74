"""Triple attention under jit, vmap and remat, its determinism, padding, and the memory of the chunked version."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels import triple_attention
from kernels._triton import fold_vmap
from kernels.triple_attention.chunked import _Chunks
from kernels.triple_attention.shapes import SHAPES
from tests.kernels.triple_attention.cases import NAMES, Case, expected, inputs, use_small_tiles
from tests.numerics import assert_close

FAST = ["xla", "pallas"]


@pytest.mark.parametrize("implementation", FAST)
def test_vmap_over_samples_is_the_batched_call(implementation):
    def one(operands):
        operands = {name: x[None] for name, x in operands.items()}
        y, state = triple_attention(**operands, implementation=implementation, return_state=True)
        return y[0], state[0]

    y, state = jax.jit(jax.vmap(one))(inputs(Case()))
    assert_close("y", y, expected(Case())["y"], 1e-5)
    assert_close("state", state, expected(Case())["state"], 1e-5)


@pytest.mark.parametrize("implementation", FAST)
def test_gradient_through_vmap(implementation):
    operands = inputs(Case())

    def loss(operands, implementation):
        def one(operands):
            return triple_attention(**{k: x[None] for k, x in operands.items()}, implementation=implementation)[0]

        return jnp.sum(jnp.sin(jax.vmap(one)(operands)))

    actual = jax.jit(jax.grad(lambda x: loss(x, implementation)))(operands)
    reference = jax.jit(jax.grad(lambda x: loss(x, "reference")))(operands)
    for name in NAMES:
        assert_close(name, actual[name], reference[name], 1e-5)


def test_fold_vmap_folds_mapped_and_repeats_shared_operands():
    calls = []

    def double(x, y):
        calls.append(x.shape)
        return x + y, 2 * y

    x, y = jnp.arange(12.0).reshape(3, 2, 2), jnp.arange(4.0).reshape(2, 2)
    total, doubled = jax.vmap(fold_vmap(double), in_axes=(0, None))(x, y)
    assert calls[-1] == (6, 2)
    np.testing.assert_array_equal(total, x + y)
    np.testing.assert_array_equal(doubled, jnp.broadcast_to(2 * y, (3, 2, 2)))


@pytest.mark.parametrize("implementation", FAST)
def test_remat_and_sum_of_two_uses_give_the_same_gradient(implementation):
    operands = inputs(Case())

    def loss(x, attend):
        once = attend(x)
        return jnp.sum(jnp.sin(once) * attend(x | {"v": once}))

    def attend(implementation):
        return jax.checkpoint(lambda x: triple_attention(**x, implementation=implementation))

    kept = jax.jit(jax.grad(lambda x: loss(x, attend("reference"))))(operands)
    recomputed = jax.jit(jax.grad(lambda x: loss(x, attend(implementation))))(operands)
    for name, gradient in kept.items():
        assert_close(name, recomputed[name], gradient, 1e-5)


@pytest.mark.parametrize("implementation", ["reference", *FAST])
def test_padding_with_zeros_needs_only_the_number_of_points(implementation):
    operands = inputs(Case())
    padded = {name: jnp.asarray(np.pad(x, ((0, 0), (0, 11), (0, 0), (0, 0)))) for name, x in operands.items()}
    attend = jax.jit(lambda x: triple_attention(**x, n_total=37, implementation=implementation, return_state=True))
    y, state = attend(padded)
    assert_close("y", y[:, :37], expected(Case())["y"], 1e-5)
    assert_close("state", state, expected(Case())["state"], 1e-5)
    assert not np.any(np.asarray(y)[:, 37:])


@pytest.mark.parametrize("implementation", FAST)
def test_the_unread_state_and_the_unread_output_leave_no_gradient(implementation):
    operands = inputs(Case())
    attend = jax.jit(
        jax.grad(
            lambda x: jnp.sum(triple_attention(**x, implementation=implementation, return_state=True)[1] ** 2),
        )
    )
    gradients = attend(operands)
    assert not np.any(gradients["q1"])
    assert not np.any(gradients["q2"])
    assert np.all(np.isfinite(gradients["v"]))
    assert np.any(gradients["v"])


def test_kernels_are_deterministic(monkeypatch):
    use_small_tiles(monkeypatch)
    operands = inputs(Case(points=97, width=16))
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(triple_attention(**x, implementation="pallas") ** 2)))
    first, second = gradient(operands), gradient(operands)
    for name in NAMES:
        np.testing.assert_array_equal(first[name], second[name])


def test_xla_never_holds_all_pairs():
    points, heads, width = 65_536, 2, 16
    operands = [jax.ShapeDtypeStruct((1, points, heads, width), jnp.float32)] * 5

    def loss(*operands):
        return jnp.sum(triple_attention(*operands, implementation="xla") ** 2)

    compiled = jax.jit(jax.grad(loss, argnums=range(5))).lower(*operands).compile()
    all_pairs = points * heads * width * width * 4
    assert compiled.memory_analysis().temp_size_in_bytes < all_pairs


@pytest.mark.parametrize("points", [1, 7, 64, 65])
def test_chunks_cover_every_point_once(points):
    x = jnp.arange(1, points + 1, dtype=jnp.float32)[None, :, None, None]
    for count in {1, min(4, points), points}:
        chunks = _Chunks(count)
        assert chunks.sum(jnp.sum, (x,)) == points * (points + 1) / 2
        np.testing.assert_array_equal(chunks.map(lambda part: 2 * part, (x,)), 2 * x)


def test_named_shapes_are_complete():
    assert {"points_65k_d16", "points_65k_d32", "points_65k_d64", "points_500k_d32"} <= SHAPES.keys()

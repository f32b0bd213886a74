"""Products with a matrix whose gradient is summed over the rows in parts: of narrow ones and of copies side by side."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels import residual_mlp, side_by_side, times_matrix
from kernels._products import narrow_parts, parts_of_rows

ROWS, COPIES = 1536, 3


def arrays(*shapes):
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return [jax.random.normal(key, (COPIES, *shape)) for key, shape in zip(keys, shapes, strict=True)]


def linear(x, matrix):
    return jnp.mean(jnp.sin(times_matrix(x, matrix, "highest")))


def mlp(x, matrix):
    options = {"residual_in": False, "residual_out": False, "precision": "highest"}
    return jnp.mean(jnp.square(residual_mlp(x, [matrix, matrix.T], [jnp.zeros(5), jnp.zeros(6)], **options)))


@pytest.mark.parametrize("function", [linear, mlp])
def test_side_by_side_gradients_are_those_of_each_alone_with_sums_in_parts(function):
    x, matrix = arrays((2, ROWS // 2, 6), (6, 5))
    gradients = jax.value_and_grad(function, argnums=(0, 1))
    alone = jax.vmap(gradients)(x, matrix)

    def announced(*arguments):
        with side_by_side(COPIES):
            return jax.vmap(gradients)(*arguments)

    together = jax.jit(announced)
    for got, want in zip(jax.tree.leaves(together(x, matrix)), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-7)
    parts = parts_of_rows(ROWS, (6, 5), COPIES)
    assert parts == ROWS // 128
    assert f"f32[{COPIES},{parts},{ROWS // parts},6]" in str(together.trace(x, matrix).jaxpr)


def test_narrow_gradients_of_many_rows_are_sums_in_parts():
    x, matrix = (x[0] for x in arrays((2**16, 8), (8, 2)))
    gradient = jax.jit(jax.grad(lambda x, matrix: jnp.sum(times_matrix(x, matrix, "highest")), argnums=1))
    np.testing.assert_allclose(gradient(x, matrix), jnp.broadcast_to(x.sum(0)[:, None], (8, 2)), rtol=1e-4, atol=0.05)
    parts = narrow_parts(x.shape, matrix.shape)[0]
    assert parts == 256
    assert f"f32[{parts},2,8]" in str(gradient.trace(x, matrix).jaxpr)


@pytest.mark.parametrize(
    ("shape", "matrix", "parts"),
    [
        ((131_072, 384), (384, 64), None),
        ((8, 1024, 384), (384, 6), None),  # few rows
        ((4, 32_768, 384), (384, 6), (4, 8, 4096, 384)),
        ((128, 1024, 384), (384, 6), (128, 1, 1024, 384)),
        ((1, 1_000_000, 3), (3, 128), (1, 80, 12_500, 3)),
        ((3 * 65_537, 384), (384, 6), None),  # rows that eight devices cannot share
        ((2, 7225, 8, 16), (16, 64), (2, 40, 1445, 16)),  # heads of points
        ((65_536, 1, 6), (6, 32), (256, 256, 6)),
    ],
)
def test_parts_of_narrow_gradients_keep_axes_apart_that_devices_share(shape, matrix, parts):
    assert narrow_parts(shape, matrix) == parts


def test_forward_mode_knows_the_parts():
    x, matrix = arrays((ROWS, 6), (6, 5))
    directions = (jnp.cos(x), jnp.cos(matrix))

    def slope(x, matrix, *direction):
        return jax.jvp(linear, (x, matrix), direction)

    alone = jax.vmap(slope)(x, matrix, *directions)
    with side_by_side(COPIES):
        together = jax.vmap(slope)(x, matrix, *directions)
    np.testing.assert_allclose(together, alone, rtol=1e-5)


@pytest.mark.parametrize(
    ("rows", "shape", "copies", "parts"),
    [
        (1944, (88, 88), 1, 1),  # the library's business
        (131_072, (384, 6), 1, 1),
        (1944, (88, 88), 5, 12),  # of at most 13 the largest that divides the rows
        (1944, (2, 88), 5, 12),  # of at most 15
        (33_282, (88, 141), 3, 9),
        (1944, (256, 512), 8, 1),  # tiles of the matrix fill the device
        (200, (8, 8), 5, 1),
        (2 * 10_007, (8, 8), 5, 2),
    ],
)
def test_parts_fill_the_device_and_divide_the_rows(rows, shape, copies, parts):
    assert parts_of_rows(rows, shape, copies) == parts


def test_rows_may_be_of_any_number():
    """As in a program that is exported for all clouds."""
    x = jax.ShapeDtypeStruct((*jax.export.symbolic_shape("b, n"), 8), jnp.float32)
    gradient = jax.grad(lambda matrix, x: jnp.sum(times_matrix(x, matrix)))
    assert jax.eval_shape(gradient, jax.ShapeDtypeStruct((8, 2), jnp.float32), x).shape == (8, 2)


@pytest.mark.parametrize("shape", [(2, 5, 3), ()])
def test_rows_of_another_width(shape):
    with pytest.raises(ValueError, match=r"x has shape .* and the matrix \(4, 7\); give rows \[..., C\]"):
        times_matrix(jnp.ones(shape), jnp.ones((4, 7)))

"""Folding over chunks of points."""

import jax.numpy as jnp
import numpy as np
import pytest

from kernels._chunked import fold_chunks


@pytest.mark.parametrize("points", [1, 7, 64, 65])
def test_chunks_cover_every_point_once(points):
    x = jnp.arange(points, dtype=jnp.float32)[None, :, None, None]
    for chunks in {1, min(4, points), points}:
        total, doubled = fold_chunks(lambda c, part: (c + jnp.sum(part), 2 * part), jnp.float32(0), x, chunks)
        assert total == points * (points - 1) / 2
        np.testing.assert_array_equal(doubled, 2 * x)

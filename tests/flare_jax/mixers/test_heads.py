"""Splitting channels into heads: what is no batch of points is refused."""

import inspect

import jax.numpy as jnp
import pytest

from flare_jax.mixers.heads import heads_then_parts, parts_then_heads, split_heads


@pytest.mark.parametrize("split", [split_heads, parts_then_heads, heads_then_parts])
@pytest.mark.parametrize("shape", [(7, 12), (2, 0, 12), (2, 3, 7, 12)])
def test_no_batch_of_points(split, shape):
    # The annotations, which only the tests switch on, refuse the rank first.
    with pytest.raises(ValueError, match=r"has shape \(.*\) but must be a non-empty array \[B, N, C\]"):
        inspect.unwrap(split)(jnp.ones(shape), 2)

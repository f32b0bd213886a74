"""How launches cut their work."""

import jax
import jax.numpy as jnp
import pytest

from kernels import flare_mixer
from kernels._tiling import Blocks, Tiling


@pytest.mark.parametrize(("points", "programs"), [(1, 1), (100, 7), (1000, 1000), (4097, 33)])
def test_splits_cover_all_points(points, programs):
    blocks = Blocks(points=16, latents=16, programs=programs, warps=4)
    tiling = Tiling.create(blocks, points, 20, 4, masked=False, all_latents=True)
    assert tiling.splits * tiling.split_points >= points
    assert (tiling.splits - 1) * tiling.split_points < points
    assert tiling.splits <= max(1, programs // 4)


@pytest.mark.parametrize("points", [40, 3000])
@pytest.mark.parametrize("per_sample", [True, False])
def test_gradients_of_queries_of_each_sample_are_summed_by_themselves(per_sample, points):
    def loss(q, k):
        return jnp.sum(flare_mixer(q, k, k, scale=1.0, implementation="pallas"))

    q, k = jnp.ones((2, 2, 16, 8)[not per_sample :]), jnp.ones((2, points, 2, 8))
    for program, of in ((jax.grad(loss), (q, k)), (jax.vmap(jax.grad(loss)), (q[None], k[None]))):
        assert ("optimization_barrier" in str(jax.make_jaxpr(program)(*of))) == per_sample

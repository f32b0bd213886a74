"""Pallas' interpreter with the bookkeeping that the tests leave it: kernels that use all of what is left out."""

from importlib.metadata import version

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl

from kernels._triton_lowering import plt

ROWS, BLOCK, SAMPLES = 7, 3, 2


def scale_and_sum(x, table, earlier, y, total):
    """Write y = x table[sample] where the table is positive, else x; add the sum of what x has in rows to `total`."""
    del earlier  # which `total` begins with
    sample, split = pl.program_id(2), pl.program_id(1)
    rows = split * BLOCK + jnp.arange(BLOCK)
    everything = plt.load(table.at[...], mask=table[...] > 0, other=1.0)
    factor = jnp.sum(jnp.where(jnp.arange(SAMPLES) == sample, everything, 0.0))
    values = plt.load(x.at[pl.ds(0, BLOCK)], mask=rows < ROWS, other=0.0)
    y[...] = values * factor

    def add(i, _):
        total[i] = total[i] + jnp.sum(values)

    jax.lax.fori_loop(0, SAMPLES, lambda i, _: pl.when(i == sample)(lambda: add(i, None)), None)
    plt.store(total.at[...], -total[...], mask=jnp.isinf(total[...]))


def run(x, table, earlier):
    block = pl.BlockSpec((None, BLOCK), lambda i, s, b: (b, s))
    whole = pl.BlockSpec((SAMPLES,), lambda i, s, b: (0,))
    return pl.pallas_call(
        scale_and_sum,
        grid=(1, pl.cdiv(ROWS, BLOCK), SAMPLES),
        in_specs=[block, whole, whole],
        out_specs=[block, whole],
        out_shape=[jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (x, earlier)],
        input_output_aliases={2: 1},
        interpret=True,
    )(x, table, earlier)


@pytest.fixture
def arrays():
    x = np.random.default_rng(0).standard_normal((SAMPLES, ROWS)).astype(np.float32)
    return x, np.float32([2.0, -3.0]), np.float32([10.0, 20.0])


def test_a_kernel_reads_writes_and_completes_its_blocks(arrays):
    x, table, earlier = arrays
    y, total = jax.jit(run)(x, table, earlier)
    np.testing.assert_array_equal(y, x * np.float32([[2.0], [1.0]]))
    np.testing.assert_allclose(total, earlier + x.sum(axis=1), rtol=1e-5)


def test_programs_of_vmap_are_those_of_one_call_after_another(arrays):
    several = [np.stack([a, a[::-1] + 1]) for a in arrays]
    together = jax.jit(jax.vmap(run))(*several)
    for i in range(2):
        for found, expected in zip(together, run(*(a[i] for a in several)), strict=True):
            np.testing.assert_array_equal(found[i], expected)


@pytest.mark.skipif(not version("jax").startswith("0.10."), reason="another JAX is left as it is")
def test_what_a_kernel_only_reads_is_not_written(arrays):
    text = jax.jit(run).lower(*arrays).as_text()
    # The blocks of y and of the total, and what is stored in them in the loop.
    assert text.count("stablehlo.dynamic_update_slice") <= 3

"""The programs that time products of a warpgroup are lowered for a GPU, where there is none."""

import jax
import pytest

from kernels import _mosaic


@pytest.mark.skipif(_mosaic.why_unavailable() is not None, reason="needs Mosaic GPU of jax 0.11")
def test_every_product_is_lowered():
    from benchmarks import product_rates

    for product in product_rates.PRODUCTS:
        text = jax.jit(product_rates.program(product, 2, 10)).trace().lower(lowering_platforms=("cuda",)).as_text()
        assert "mosaic_gpu" in text, product.name

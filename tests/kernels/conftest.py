"""What tests of several operations prepare alike."""

import jax
import pytest


@pytest.fixture
def taking_over(monkeypatch):
    """Let Mosaic GPU's kernels take the place of Triton's whatever machine code this JAX makes of them."""
    from kernels import _mosaic  # not above: pytest reads this file before the shape checks are installed

    monkeypatch.setattr(_mosaic, "NEWEST_JAX_TO_TAKE_OVER", jax.__version_info__[:2])

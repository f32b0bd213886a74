"""Suite-wide set-up: shape checks on, exact float32 matmuls, a compilation cache, GPU tests skipped without a GPU."""

import os
from pathlib import Path

os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")

import jax
import pytest

try:
    from jaxtyping import install_import_hook

    install_import_hook(["flare_jax", "kernels"], "beartype.beartype")
except ImportError:  # beartype is absent on some GPU machines: the same tests then run without shape checks
    pass

jax.config.update("jax_default_matmul_precision", "highest")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked `gpu` where JAX sees no GPU."""
    if jax.default_backend() == "gpu":
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))

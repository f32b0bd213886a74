"""Suite-wide set-up: shape checks on, exact float32 matmuls, fast compilation, GPU tests skipped without a GPU."""

import gc
import os
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec

# The suite spends its time in compilation, of which these flags save up to three quarters on the CPU; on a GPU the
# programs are those of the users.
# Not a compilation cache: XLA reads large CPU programs back on a thread whose stack they may overflow, which ended a
# test process now and then. jaxlib 0.11 knows no flag that turns its fusion emitters off, and stops at unknown ones.
if not os.path.exists("/dev/nvidiactl"):
    _FLAGS = ["--xla_backend_optimization_level=0"]
    if version("jaxlib").startswith("0.10."):
        _FLAGS += ["--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1"]
    os.environ["XLA_FLAGS"] = " ".join([*_FLAGS, os.environ.get("XLA_FLAGS", "")])

import jax
import pytest
from jaxtyping import install_import_hook

# Shape checks are part of the suite: without beartype it stops here, unless it is told to do without them.
if not os.environ.get("FLARE_JAX_WITHOUT_SHAPE_CHECKS"):
    if find_spec("beartype") is None:
        raise ImportError(
            "beartype, which checks shapes in the tests, is missing; install flare_jax[test], or set "
            "FLARE_JAX_WITHOUT_SHAPE_CHECKS=1 to run without shape checks"
        )
    install_import_hook(["flare_jax", "kernels"], "beartype.beartype")

jax.config.update("jax_default_matmul_precision", "highest")


@pytest.fixture(scope="module", autouse=True)
def free_programs() -> Iterator[None]:
    """Free the traced and compiled programs of each test file, which no other file uses: they fill gigabytes."""
    yield
    jax.clear_caches()
    gc.collect()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked `gpu` where JAX sees no GPU."""
    if jax.default_backend() == "gpu":
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))

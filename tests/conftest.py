"""Suite-wide set-up: shape checks on, exact float32 matmuls, fast compilation, GPU tests skipped without a GPU."""

import ctypes
import gc
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compilation import compile_fast, share_contexts
from tests.forking import collect_rarely
from tests.moving import move_on_host
from tests.program_server import accept_interrupts, programs_forked, start_server

compile_fast()
accept_interrupts()


def _prepare() -> None:
    """Set a process up that runs tests."""
    gc.disable()  # until the tests are collected: what is imported stays
    import jax

    from tests import shape_checks

    shape_checks.install(["flare_jax", "kernels"])
    jax.config.update("jax_default_matmul_precision", "highest")
    share_contexts()
    move_on_host()


@pytest.fixture(scope="session", autouse=True)
def fork_programs() -> Iterator[None]:
    """Let the programs that others start beside them be forked; see `tests.program_server`."""
    with programs_forked():
        yield


# Of one test process, beyond which compiled programs are given up: a sixth of the machine.
_MEMORY_LIMIT = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 6


@pytest.fixture(scope="module", autouse=True)
def free_programs() -> Iterator[None]:
    """Free traced and compiled programs after a test file where they fill gigabytes; else other files may use them."""
    yield
    if memory_in_use() > _MEMORY_LIMIT:
        import jax

        jax.clear_caches()
        gc.collect()
        _return_memory()


def _return_memory() -> None:
    """Give the system back what was freed, where that is to be asked for: else every file after it would count it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def memory_in_use() -> int:
    """Return the bytes of memory that this process holds, the most it ever held where the system does not say."""
    statistics = Path("/proc/self/statm")
    if statistics.exists():
        return int(statistics.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def pytest_collection_finish() -> None:
    """Let the garbage collector rest; see `collect_rarely`."""
    gc.collect()
    collect_rarely()
    gc.enable()


# A file system in memory, and the free space there with which the tests' files, a quarter of it, go to it.
_MEMORY_FILES, _MEMORY_FILES_LEAST = Path("/dev/shm"), 2 * 2**30


def pytest_configure(config: pytest.Config) -> None:
    """Let several test processes take the files in the order below, not those of many tests first; files in memory.

    Checkpoints are thousands of small files, written, synchronised, moved and removed: on a disk the tests wait for it.
    """
    if getattr(config.option, "dist", "no") == "no":  # not the process that only hands tests out
        _prepare()
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False
    if _MEMORY_FILES.is_dir() and shutil.disk_usage(_MEMORY_FILES).free > _MEMORY_FILES_LEAST:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY_FILES))
    # Before there are other test processes, so that these have the same.
    folder = tempfile.TemporaryDirectory()
    config.add_cleanup(folder.cleanup)
    start_server(Path(folder.name))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files of slow tests first, so that processes end together; skip tests marked `gpu` where JAX sees no GPU."""
    import jax

    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    if jax.default_backend() == "gpu":
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))

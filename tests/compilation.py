"""How the programs of the tests are compiled: quickly where there is no GPU."""

import os
import threading
from importlib.metadata import version
from typing import Any

# Programs that are lowered in one context, which keeps what it has seen.
_PROGRAMS_OF_A_CONTEXT = 100


def compile_fast() -> None:
    """Let XLA compile for the CPU in a quarter of the time; call it before JAX is imported.

    The tests spend their time in compilation. On a GPU the programs are those of the users.
    """
    # Not a compilation cache: XLA reads large CPU programs back on a thread whose stack they may overflow, which ended
    # a test process now and then. jaxlib 0.11 knows no flag that turns its fusion emitters off, and stops at unknown
    # ones.
    if os.path.exists("/dev/nvidiactl"):
        return
    flags = ["--xla_backend_optimization_level=0"]
    if version("jaxlib").startswith("0.10."):
        flags += ["--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1"]
    else:
        # The interpreter of Mosaic GPU's kernels has a thread for each warpgroup: of as few as two processors have,
        # those that wait leave none for the one that they wait for, forever.
        os.environ.setdefault("PJRT_NPROC", "8")
    os.environ["XLA_FLAGS"] = " ".join([*flags, os.environ.get("XLA_FLAGS", "")])
    # Without a folder for it nothing is kept, but JAX hashes the text of every program nevertheless.
    os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")
    # Lines of our code beside every operation of a program, which nobody reads.
    os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")


def share_contexts() -> None:
    """Let JAX 0.10 lower many programs in one MLIR context; call it once JAX is imported.

    Setting a context up takes a quarter of the time in which a program of one operation is compiled, of which the tests
    have ten thousand. Another version of JAX is left as it is.
    """
    if not version("jax").startswith("0.10."):
        return
    from jax._src.interpreters import mlir

    make = mlir.make_ir_context
    context, uses = make(), 0

    def make_ir_context() -> mlir.ir.Context:
        nonlocal context, uses
        if threading.current_thread() is not threading.main_thread() or _is_lowering(mlir.ir.Context):
            return make()  # a context is for one thread, and of what is lowered within it would become a part
        if uses == _PROGRAMS_OF_A_CONTEXT:
            context, uses = make(), 0
        uses += 1
        return context

    mlir.make_ir_context = make_ir_context


def _is_lowering(contexts: Any) -> bool:
    """Return whether a program is being lowered, whose lowering computes with another one."""
    try:
        return contexts.current is not None
    except ValueError:
        return False

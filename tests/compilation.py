"""How the programs of the tests are compiled: quickly where there is no GPU."""

import os
from importlib.metadata import version


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
    os.environ["XLA_FLAGS"] = " ".join([*flags, os.environ.get("XLA_FLAGS", "")])

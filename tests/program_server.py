"""Running programs as a user does, `python -m MODULE ARGUMENTS`, without each of them importing JAX anew.

A server imports once what all programs import, which takes longer than most of the suite's runs, and forks a process
for every program: that has its own environment, folder, arguments, output, signals and exit status. No computation has
begun in the server, so that a fork has no thread to miss. Programs that must start from nothing, such as those that are
killed while they import, are started by the tests themselves.
"""

import atexit
import gc
import multiprocessing
import os
import resource
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax

from tests.compilation import share_contexts

ROOT = Path(__file__).parent.parent
_PRELOADED = [
    "experiments.pdebench.main",
    "experiments.lra.main",
    "experiments.predict.main",
    "flare_jax.convert.runs",
    "sklearn.ensemble",
]


def run_program(
    module: str,
    arguments: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    timeout: float = 300,
    largest_file_kib: int | None = None,
) -> subprocess.CompletedProcess:
    """Run `python -m module arguments` from the repository root and return its exit status and output.

    `largest_file_kib` makes every write beyond that size of a file fail, as on a disk that fills up. Environment
    variables of JAX are set as its options, for it is imported already. Raises TimeoutExpired.
    """
    command = [sys.executable, "-m", module, *arguments]
    with tempfile.TemporaryDirectory() as folder:
        out, error = Path(folder) / "out", Path(folder) / "error"
        process = start_program(module, arguments, out, error, env, largest_file_kib)
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(command, timeout, out.read_bytes(), error.read_bytes())
        return subprocess.CompletedProcess(command, process.exitcode, out.read_text(), error.read_text())


def start_program(
    module: str,
    arguments: Sequence[str],
    out: Path,
    error: Path,
    env: Mapping[str, str] | None = None,
    largest_file_kib: int | None = None,
) -> multiprocessing.Process:
    """Start what `run_program` runs, with its output in the files `out` and `error`, and return the process."""
    environment = dict(os.environ if env is None else env)
    process = _server().Process(target=_run, args=(module, list(arguments), environment, out, error, largest_file_kib))
    process.start()
    return process


def _server() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


def _run(
    module: str, arguments: list[str], env: dict[str, str], out: Path, error: Path, largest_file_kib: int | None
) -> None:
    """Become the program."""
    for path, stream in ((out, sys.stdout), (error, sys.stderr)):
        stream.flush()
        with path.open("wb") as file:
            os.dup2(file.fileno(), stream.fileno())
    if largest_file_kib is not None:
        limit = largest_file_kib * 1024
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    _set_environment(env)
    share_contexts()
    collect_rarely()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        # A forked process leaves these out, and writers of checkpoints end in them.
        atexit._run_exitfuncs()


def collect_rarely() -> None:
    """Keep the garbage collector from searching again and again what lives long: modules, tests, traced programs."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _set_environment(env: dict[str, str]) -> None:
    for name, value in env.items():
        if name.startswith("JAX_") and os.environ.get(name) != value:
            jax.config.update(name.lower(), value)
    os.environ.clear()
    os.environ.update(env)

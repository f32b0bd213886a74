"""The process that forks programs of Python: `python -m tests.forking DESCRIPTOR`, which ends when its input ends.

It listens at the socket DESCRIPTOR. With the first program it imports once what all programs import, which takes longer
than most of the suite's runs, and forks a process for every program; no computation has begun here, so that a fork has
no thread to miss. A program gets its own environment, folder, arguments, streams, signals and exit status. Who asks for
one (`tests.program_server`) is sent its process id, and its exit status when it has ended.
"""

import atexit
import fcntl
import gc
import importlib
import importlib.util
import io
import json
import os
import resource
import runpy
import selectors
import signal
import socket
import struct
import sys
import threading
import traceback
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.compilation import share_contexts
from tests.moving import move_on_host

_PRELOADED = (
    "benchmarks.devices_step",
    "benchmarks.kernels_jax",
    "benchmarks.scaling_jax",
    "benchmarks.worker",
    "experiments.generate.main",
    "experiments.lm.main",
    "experiments.lra.main",
    "experiments.pdebench.main",
    "experiments.predict.main",
    "experiments.sweep.main",
    "flare_jax.convert.runs",
    "sklearn.ensemble",
    "tests.program_server",
)
_PRELOADED_WHERE_INSTALLED = ("pyvista",)
NUMBER = struct.Struct("q")
_MOST_DESCRIPTORS = 16


def main(descriptor: int) -> None:
    """Fork programs until standard input ends; in a forked process, become the program."""
    # Python 3.12 warns of threads: those of numerical libraries, which mind forks.
    warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)
    answered = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGCHLD)}
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with socket.socket(fileno=descriptor) as listener:
        connection = _serve(listener, reader)
    signal.set_wakeup_fd(-1)
    for number, handler in answered.items():
        signal.signal(number, handler)
    os.close(reader)
    os.close(writer)
    if connection is not None:
        _end_as(connection)


def _serve(listener: socket.socket, reader: int) -> socket.socket | None:
    """Fork until standard input ends; return None then, and in a forked process the connection that it is for."""
    running: dict[int, socket.socket] = {}
    with selectors.DefaultSelector() as selector:
        for place in (listener, reader, 0):
            selector.register(place, selectors.EVENT_READ)
        while True:
            ready = [key.fileobj for key, _ in selector.select()]
            if 0 in ready:
                return None
            if reader in ready:
                os.read(reader, 4096)
                _say_who_ended(running)
            if listener in ready:
                connection, _ = listener.accept()
                if _PRELOADED[0] not in sys.modules:
                    _prepare()
                pid = os.fork()
                if pid == 0:
                    for other in running.values():
                        other.close()
                    return connection
                running[pid] = connection
                connection.sendall(NUMBER.pack(pid))


def _prepare() -> None:
    """Import what programs import, and draw, which finds fonts and builds the grammar of mathematical text."""
    for name in _PRELOADED:
        importlib.import_module(name)
    for name in _PRELOADED_WHERE_INSTALLED:
        if importlib.util.find_spec(name) is not None:
            importlib.import_module(name)
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    axes = figure.subplots()
    axes.semilogy([1, 10], label="values")
    axes.legend()
    figure.savefig(io.BytesIO(), bbox_inches="tight")


def _say_who_ended(running: dict[int, socket.socket]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with running.pop(pid) as connection, suppress(BrokenPipeError):  # who asked for it may have ended
            connection.sendall(NUMBER.pack(os.waitstatus_to_exitcode(status)))


def _end_as(connection: socket.socket) -> None:
    """Run the program that is asked for, and end with its status, as Python does."""
    status = 1
    try:
        with connection:
            head, given, _, _ = socket.recv_fds(connection, NUMBER.size, _MOST_DESCRIPTORS)
            with connection.makefile("rb") as file:
                request = json.loads(file.read(NUMBER.unpack(head)[0]))
        _take(given, request.pop("descriptors"))
        _run(**request)
        status = 0
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            status = end.code or 0
        else:
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        threading._shutdown()
        # Writers of checkpoints end in them; what Python takes down besides costs more than many a program.
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


def _take(given: list[int], wanted: list[int]) -> None:
    """Give descriptors the numbers that are wanted; those beyond the first three must be free."""
    above = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 100) for descriptor in given]
    for descriptor in given:
        os.close(descriptor)
    for descriptor, number in zip(above, wanted, strict=True):
        if number > 2 and Path(f"/proc/self/fd/{number}").exists():
            raise OSError(f"descriptor {number} is taken in the process that forks programs")
        os.dup2(descriptor, number, inheritable=number < 3)
        os.close(descriptor)


def _run(
    command: list[str], folder: str, environment: dict[str, str], own_session: bool, largest_file_kib: int | None
) -> None:
    """Become the program `-m MODULE ARGUMENT ...` or `-c CODE ARGUMENT ...`, which -P may stand before."""
    if own_session:
        os.setsid()
    if largest_file_kib is not None:
        limit = largest_file_kib * 1024
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    _set_environment(environment)
    share_contexts()
    move_on_host()
    collect_rarely()
    os.chdir(folder)
    if command[0] == "-P":
        del command[0]
    else:
        sys.path.insert(0, folder)
    kind, what, *arguments = command
    sys.argv = [what if kind == "-m" else kind, *arguments]
    from tests.program_server import programs_forked

    with programs_forked():
        if kind == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            exec(what, {"__name__": "__main__"})


def collect_rarely() -> None:
    """Keep the garbage collector from searching again and again what lives long: modules, tests, traced programs."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _set_environment(environment: dict[str, str]) -> None:
    """Set the variables, and what libraries that are imported already have read from them."""
    import jax
    from threadpoolctl import threadpool_limits

    changes: dict[str, Any] = {k: v for k, v in environment.items() if os.environ.get(k) != v}
    for name, value in changes.items():
        if name.startswith("JAX_"):
            jax.config.update(name.lower(), value)
    os.environ.clear()
    os.environ.update(environment)
    if "OMP_NUM_THREADS" in changes:
        threadpool_limits(int(environment["OMP_NUM_THREADS"]))


if __name__ == "__main__":
    main(int(sys.argv[1]))

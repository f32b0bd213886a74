"""Running programs as a user does, `python -m MODULE ARGUMENTS`, without each of them importing JAX anew.

They are forked by a process that has imported it (`tests.forking`), one for all test processes. Programs that must
start from nothing, such as those that are ended while they import, are started by the tests themselves.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import IO
from unittest import mock

from tests.forking import NUMBER

ROOT = Path(__file__).parent.parent
# Where the server listens, for this process and those that it starts.
_ADDRESS = "FLARE_JAX_PROGRAM_SERVER"
# Modules that start programs of the project beside them.
_STARTING = ("benchmarks.worker", "data_pipeline.generate.chunks", "experiments.sweep.jobs")
_STREAMS = ("stdin", "stdout", "stderr")


def accept_interrupts() -> None:
    """Take Ctrl-C; what runs in the background of a shell ignores it, and so would what it starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def start_server(folder: Path) -> None:
    """Start the server, with its socket in `folder`, unless there is one; it ends with this process."""
    if _ADDRESS in os.environ:
        return
    address = str(folder / "programs")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        command = [sys.executable, "-m", "tests.forking", str(listener.fileno())]
        subprocess.Popen(command, cwd=ROOT, pass_fds=[listener.fileno()], stdin=subprocess.PIPE)
    os.environ[_ADDRESS] = address


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
    return start_program(module, arguments, env=env, largest_file_kib=largest_file_kib).result(timeout)


def start_program(
    module: str,
    arguments: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    largest_file_kib: int | None = None,
) -> "Program":
    """Start what `run_program` runs."""
    return Program([sys.executable, "-m", module, *arguments], env, largest_file_kib)


@contextmanager
def programs_forked() -> Iterator[None]:
    """Let programs that modules of the project start beside them be forked too, as far as these are imported."""
    ends = {name: getattr(subprocess, name) for name in ("PIPE", "STDOUT", "DEVNULL")}
    forked = SimpleNamespace(Popen=Forked, **ends)
    with ExitStack() as stack:
        for name in _STARTING:
            if name in sys.modules:
                stack.enter_context(mock.patch.object(sys.modules[name], "subprocess", forked))
        yield


class Forked:
    """A program of Python that the server forks, with what is used of `subprocess.Popen`.

    `command` is that of `python -m MODULE` or `python -c CODE`, with or without -P. Where PIPE is asked for, `stdin`,
    `stdout` and `stderr` are the ends of pipes that this process keeps.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        bufsize: int = -1,
        text: bool = False,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        start_new_session: bool = False,
        pass_fds: Sequence[int] = (),
        largest_file_kib: int | None = None,
        **streams: int | IO | None,
    ) -> None:
        self.args, self.stdin, self.stdout, self.stderr = list(command), None, None, None
        self._status: int | None = None
        self._lock = threading.Lock()  # several threads may wait
        request = {
            "command": self.args[1:],
            "folder": str(cwd or Path.cwd()),
            "environment": dict(os.environ if env is None else env),
            "own_session": start_new_session,
            "descriptors": [0, 1, 2, *pass_fds],
            "largest_file_kib": largest_file_kib,
        }
        content = json.dumps(request).encode()
        with ExitStack() as stack:
            descriptors: list[int] = []
            for number, name in enumerate(_STREAMS):
                descriptor, kept = _ends(number, streams.get(name), descriptors, stack)
                descriptors.append(descriptor)
                if kept is not None:
                    mode = ("w" if name == "stdin" else "r") + ("" if text else "b")
                    setattr(self, name, os.fdopen(kept, mode, bufsize))
            self._connection = socket.socket(socket.AF_UNIX)
            self._connection.connect(os.environ[_ADDRESS])
            socket.send_fds(self._connection, [NUMBER.pack(len(content))], [*descriptors, *pass_fds])
            self._connection.sendall(content)
        self.pid = NUMBER.unpack(self._connection.recv(NUMBER.size))[0]

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the program and return its exit status; raises TimeoutExpired."""
        if not select.select([self._connection], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(self.args, timeout)
        with self._lock:
            if self._status is None:
                self._status = NUMBER.unpack(self._connection.recv(NUMBER.size))[0]
        return self._status

    def poll(self) -> int | None:
        """Return the exit status, negative after a signal, None while the program runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    @property
    def returncode(self) -> int | None:
        return self._status

    def send_signal(self, number: int) -> None:
        """Send a signal, if the program runs; it may end at that moment, before the server says so."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> "Forked":
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self.stdin, self.stdout, self.stderr):
            if file is not None:
                file.close()
        self.wait()


def _ends(number: int, stream: int | IO | None, before: Sequence[int], stack: ExitStack) -> tuple[int, int | None]:
    """Return what becomes descriptor `number` of a program, and the other end, which is kept, where it is a pipe."""
    if stream is None:
        return number, None
    if stream == subprocess.STDOUT:
        return before[1], None
    if stream == subprocess.DEVNULL:
        return stack.enter_context(open(os.devnull, "r+b", buffering=0)).fileno(), None
    if stream != subprocess.PIPE:
        return stream.fileno(), None
    reader, writer = os.pipe()
    theirs, ours = (reader, writer) if number == 0 else (writer, reader)
    stack.callback(os.close, theirs)
    return theirs, ours


class Program(Forked):
    """A forked program of the repository, whose output is kept."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str] | None, largest_file_kib: int | None) -> None:
        self._files = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115
        out, error = self._files
        super().__init__(command, stdout=out, stderr=error, env=env, cwd=ROOT, largest_file_kib=largest_file_kib)

    def result(self, timeout: float = 300) -> subprocess.CompletedProcess:
        """Wait for the end, and return exit status and output; raises TimeoutExpired, with the program killed."""
        try:
            self.wait(timeout)
        except subprocess.TimeoutExpired as error:
            self.kill()
            self.wait()
            error.stdout, error.stderr = self._texts()
            raise
        return subprocess.CompletedProcess(self.args, self.returncode, *self._texts())

    def _texts(self) -> list[str]:
        texts = []
        for file in self._files:
            with file:
                file.seek(0)
                texts.append(file.read().decode())
        return texts

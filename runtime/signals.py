"""How a program ends on Ctrl-C (SIGINT) and on SIGTERM: in order, at any moment, and without an exception.

An exception raised by a signal handler can appear between any two instructions: in the middle of an import, of a
compilation or of a checkpoint's threads, which then end in tracebacks, crashes and dead locks. So nothing is raised.
A thread reads the signals, also while the main thread is inside a compiler for minutes, and

- outside of `protected`, where everything of worth is on disk, undoes what is half done and ends the program;
- inside of it notes the request, which the work answers at its next safe point, or at the latest by leaving
  `protected`; a second signal ends the program at once.

The exit status is 130 after SIGINT and 143 after SIGTERM, as shells and schedulers have it. That nobody reads the
output any more, as behind `| head`, counts as a signal too, with status 141 and, where nothing is lost, no word.
"""

import atexit
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from runtime.streams import watch_readers

_ANSWERED = (signal.SIGINT, signal.SIGTERM)
_WAITING = "stopping after the running steps and a checkpoint of them; the same signal again stops at once"


class Interrupted(Exception):
    """The program was asked to end, and what it worked on is safe.

    `status` is its exit status, the message what `install` was given for the user.
    """

    def __init__(self, number: int) -> None:
        super().__init__(_state.sentence or signal.Signals(number).name)
        self.status = 128 + number


class _State:
    """What the main thread and the thread that reads the signals share; `lock` guards all of it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.sentence: str | None = None
        self.depth = 0
        self.requested = 0
        self.ending = False
        self.undo: dict[object, Callable[[], None]] = {}


_state = _State()


def install(sentence: str) -> None:
    """Answer SIGINT and SIGTERM from now on; call it before anything heavy is imported.

    `sentence` tells the user who ended the program what to do next. A signal that is ignored stays so, such as Ctrl-C
    in programs that a shell runs in the background.
    """
    started = _state.sentence is not None
    _state.sentence = sentence
    if not started:
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        # Written at once, by whichever thread gets the signal; Python's own handlers wait for the main thread.
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        atexit.register(_ignore)  # the first to be registered is the last to be called
        watch_readers(_unread)
    renew()
    if not started:
        threading.Thread(target=_answer_all, args=(reader,), daemon=True, name="signals").start()


def install_in_programs(package: str) -> None:
    """Answer the signals from now on where `python -m` starts a program of `package`, which calls this first of all.

    Its other imports take seconds, and Python would answer Ctrl-C in their midst by a traceback.
    """
    # So Python calls it while it imports the packages around the module that it is to run.
    locating, command = sys.argv[:1] == ["-m"], sys.orig_argv
    if locating and "-m" in command and command[command.index("-m") + 1].split(".")[0] == package:
        install("interrupted; run the same command again")


def renew() -> None:
    """Take the signals again after another library has set handlers of its own; does nothing before `install`."""
    if _state.sentence is None:
        return
    for number in _ANSWERED:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, frame: None)


def _ignore() -> None:
    """Let signals be without effect while Python takes itself down, where its own handlers are gone already."""
    for number in _ANSWERED:
        signal.signal(number, signal.SIG_IGN)


def end_with(descriptor: int) -> None:
    """Send this process SIGTERM, once, when the other end of a pipe is closed, of which `descriptor` reads.

    That is when the process that holds it ends, in whatever way. (The kernel's own signal at the death of a parent
    comes once for each thread of it, and a second one would end this process at once.)
    """

    def wait() -> None:
        os.read(descriptor, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True, name="other process").start()


@contextmanager
def protected() -> Iterator[None]:
    """Let the block end in order after a signal; raises Interrupted behind it where one came."""
    with _state.lock:
        _state.depth += 1
    try:
        yield
    finally:
        with _state.lock:
            _state.depth -= 1
    raise_if_requested()


def requested() -> int:
    """Return the number of the signal that asked the program to end, 0 where none did."""
    return _state.requested


def raise_if_requested() -> None:
    """Raise Interrupted where a signal has asked the program to end."""
    if _state.requested:
        raise Interrupted(_state.requested)


@contextmanager
def undone_at_end(action: Callable[[], None]) -> Iterator[None]:
    """Call `action` where a signal ends the program inside the block; it may run while the block goes on."""
    key = object()
    _state.undo[key] = action
    try:
        yield
    finally:
        _state.undo.pop(key, None)


def settle() -> None:
    """Wait for the end of a program that a signal is ending; errors that follow from that are not to be reported."""
    while _state.ending:
        time.sleep(1.0)


def _answer_all(reader: int) -> None:
    while True:
        for number in os.read(reader, 64):
            if number in _ANSWERED:
                _answer(number)


def _answer(number: int) -> None:
    with _state.lock:
        waits = _state.depth > 0 and not _state.requested
        _state.requested = _state.requested or number
        _state.ending = not waits
    if waits:
        _tell(_WAITING)
    else:
        _end(number)


def _unread() -> None:
    """Answer that nobody reads what the program says, where nothing else has asked it to end."""
    if not _state.requested:
        _answer(signal.SIGPIPE)


def _end(number: int) -> None:
    end_now("" if number == signal.SIGPIPE else _state.sentence, 128 + number)


def end_now(sentence: str, status: int) -> None:
    """Print a sentence, if any, undo what is half done and end the program, from whichever thread."""
    if sentence:
        _tell(sentence)
    for action in list(_state.undo.values()):
        with suppress(Exception):
            action()
    if os.isatty(1):
        os.write(1, b"\x1b[?25h")  # a progress bar hides the cursor
    os._exit(status)


def _tell(sentence: str) -> None:
    # Not by print: another thread may hold its lock. Nor where nobody reads, which would block.
    with suppress(OSError):
        if select.select([], [2], [], 0)[1]:
            os.write(2, f"\n{sentence}\n".encode())

"""Standard output and errors that may be cut off, as by `| head`: who reads them is gone, which is no error."""

import io
import os
import sys
from collections.abc import Callable

_STREAMS = (("stdout", 1), ("stderr", 2))


def watch_readers(gone: Callable[[], None]) -> None:
    """Call `gone` once where nobody reads standard output, or errors, any more; what is written later is dropped.

    It is called by the thread that writes, and may end the program. A stream that is something else already, such as
    the one of a test or a notebook, stays as it is.
    """
    for name, number in _STREAMS:
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper) or stream is not getattr(sys, f"__{name}__"):
            continue
        stream.flush()
        output = _Output(number, gone)
        setattr(
            sys,
            name,
            io.TextIOWrapper(
                output if stream.write_through else io.BufferedWriter(output),  # python -u
                encoding=stream.encoding,
                errors=stream.errors,
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            ),
        )


class _Output(io.FileIO):
    """A descriptor of the process, for writing."""

    def __init__(self, number: int, gone: Callable[[], None]) -> None:
        super().__init__(number, "w", closefd=False)
        self._gone = gone

    def write(self, data: bytes) -> int | None:
        try:
            return super().write(data)
        except BrokenPipeError:
            _discard(self.fileno())
            self._gone()
            return len(data)


def _discard(number: int) -> None:
    """Let what is written to a descriptor go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)

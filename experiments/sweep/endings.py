"""Why a job of a sweep has ended: the sentence to report, and whether the run, the device or a signal was the cause."""

import re
import signal
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

_OWN = "error: "
# Lines that say what went wrong: Python's last line of a traceback, statuses of XLA, errors of CUDA, fatal log lines.
_MESSAGE = re.compile(
    r"^[\w.]*(Error|Exception|Interrupt)\b|CUDA[_ ](ERROR|error)|Check failed|Fatal|\b(?:"
    r"INTERNAL|INVALID_ARGUMENT|RESOURCE_EXHAUSTED|UNIMPLEMENTED|FAILED_PRECONDITION|UNAVAILABLE|UNKNOWN|ABORTED):"
)
# Where a log line of XLA comes from, before what it says.
_LOCATION = re.compile(r"^.*?\b[\w/+.-]+\.(?:cc|h|cu):\d+\]\s*")
# Errors by which CUDA says that a device, or what others do on it, has ended the work: under MPS all clients of
# a device see the fault of one. A device that is out of memory is not among them.
_OF_DEVICE = re.compile(
    r"CUDA_ERROR_(?:LAUNCH_FAILED|LAUNCH_TIMEOUT|ILLEGAL_ADDRESS|MPS_\w+|DEVICE_UNAVAILABLE|ECC_UNCORRECTABLE"
    r"|NVLINK_UNCORRECTABLE|HARDWARE_STACK_ERROR|CONTEXT_IS_DESTROYED|SYSTEM_NOT_READY|EXTERNAL_DEVICE|UNKNOWN)\b"
    r"|unspecified launch failure|an illegal memory access was encountered|uncorrectable (?:ECC|NVLink) error"
)
# A job that ends by one of these has failed by itself; it may have said why.
_CRASHES = (signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV)


class Cause(Enum):
    """What has ended a job."""

    RUN = "run"
    DEVICE = "device"
    SIGNAL = "signal"


@dataclass(frozen=True)
class Ending:
    """What has ended a job that did not end well, and the sentence that says so."""

    cause: Cause
    sentence: str


def read_ending(status: int, log: Path, begin: int) -> Ending:
    """Return why a job ended with `status` (not 0, negative after a signal); its part of `log` starts at `begin`.

    The sentence is that of its own error, else the last line of its output that carries a message.
    """
    with log.open("rb") as file:
        file.seek(begin)
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    own = [line.removeprefix(_OWN) for line in lines if line.startswith(_OWN)]
    if own:
        return Ending(_cause(status, own[-1]), own[-1])
    message = next((_LOCATION.sub("", line) for line in reversed(lines) if _MESSAGE.search(line)), "")
    if status < 0 and not (message and -status in _CRASHES):
        return Ending(Cause.SIGNAL, f"it was ended by {signal.Signals(-status).name}")
    ended = f"it was ended by {signal.Signals(-status).name}" if status < 0 else f"it ended with status {status}"
    text = message or (lines[-1] if lines else "")
    return Ending(_cause(status, text), f"{ended}: {text}" if text else ended)


def _cause(status: int, text: str) -> Cause:
    if _OF_DEVICE.search(text):
        return Cause.DEVICE
    from_outside = status < 0 or status in (128 + signal.SIGINT, 128 + signal.SIGTERM)
    return Cause.SIGNAL if from_outside else Cause.RUN

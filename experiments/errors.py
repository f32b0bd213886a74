"""The error a user can act on: the command line prints it as one sentence and exits with status 2."""

import os
import re
import traceback
from collections.abc import Iterator

from runtime.command import sentence

_OUT_OF_MEMORY = re.compile(r"out of memory[^\n]{0,200}", re.IGNORECASE)


class UserError(Exception):
    """A bad option, a bad workdir or a run that cannot go on; the message names the value and the remedy."""


class NotFiniteError(UserError):
    """The training of one seed is over, because its loss or its state is not finite; other seeds go on."""


def of_the_machine(error: BaseException) -> str | None:
    """Return the sentence for an error of JAX that the user can act on, None for other errors."""
    return device_missing(error) or memory_missing(error)


def memory_missing(error: BaseException) -> str | None:
    """Return the sentence for a device that has too little memory, None for other errors."""
    for cause in _causes(error):
        found = _OUT_OF_MEMORY.search(str(cause))
        if found and type(cause).__name__ in ("JaxRuntimeError", "XlaRuntimeError"):
            return sentence(MemoryError(found[0].rstrip(".")))
    return None


def device_missing(error: BaseException) -> str | None:
    """Return the sentence for a device that JAX_PLATFORMS asks for and JAX cannot use, None for other errors.

    JAX reports it where a device is first needed, by a RuntimeError or an assertion, which may be the cause of another
    error. Asking for the devices before would start them too early for several hosts.
    """
    wanted = os.environ.get("JAX_PLATFORMS")
    for cause in _causes(error) if wanted else ():
        frames = traceback.extract_tb(cause.__traceback__)
        if isinstance(cause, RuntimeError | AssertionError) and any(_starts_devices(frame) for frame in frames):
            return f"JAX_PLATFORMS={wanted} names a device that is not here or has no support installed; change it"
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that it followed from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _starts_devices(frame: traceback.FrameSummary) -> bool:
    return frame.filename.endswith("xla_bridge.py") and frame.name == "backends"

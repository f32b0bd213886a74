"""The error a user can act on: the command line prints it as one sentence and exits with status 2."""

import os
import traceback


class UserError(Exception):
    """A bad option, a bad workdir or a run that cannot go on; the message names the value and the remedy."""


class NotFiniteError(UserError):
    """The training of one seed is over, because its loss or its state is not finite; other seeds go on."""


def device_missing(error: BaseException) -> str | None:
    """Return the sentence for a device that JAX_PLATFORMS asks for and JAX cannot use, None for other errors.

    JAX reports it where a device is first needed, by a RuntimeError or an assertion, which may be the cause of another
    error. Asking for the devices before would start them too early for several hosts.
    """
    wanted, cause = os.environ.get("JAX_PLATFORMS"), error
    while wanted and cause is not None:
        frames = traceback.extract_tb(cause.__traceback__)
        if isinstance(cause, RuntimeError | AssertionError) and any(_starts_devices(frame) for frame in frames):
            return f"JAX_PLATFORMS={wanted} names a device that is not here or has no support installed; change it"
        cause = cause.__cause__ or cause.__context__
    return None


def _starts_devices(frame: traceback.FrameSummary) -> bool:
    return frame.filename.endswith("xla_bridge.py") and frame.name == "backends"

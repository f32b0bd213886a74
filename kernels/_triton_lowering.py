"""Whether kernels may be compiled by Pallas' Triton lowering, whose removal from JAX is announced.

Nothing else imports it. Where this JAX has it no more, or it is switched off, `implementation=None` takes the best of
the other implementations, and a named one that needs it says so.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import jax

try:
    from jax.experimental.pallas import triton as plt
except ImportError:
    plt = None

SWITCH = "FLARE_JAX_PALLAS_TRITON"
# A context that the caches of traced programs see: a function that was traced without it is traced again within.
_OFF = jax.make_user_context(False)


@contextmanager
def without_pallas_triton() -> Iterator[None]:
    """Trace every operation within as if Pallas had no Triton lowering.

    The environment variable FLARE_JAX_PALLAS_TRITON=off does the same for a whole process.
    """
    with _OFF(True):
        yield


def why_unavailable() -> str | None:
    """Say why the lowering cannot be used in the calls made now, None where it can.

    Raises ValueError where the environment variable is neither "on" nor "off".
    """
    setting = os.environ.get(SWITCH, "on")
    if setting not in ("on", "off"):
        raise ValueError(f"{SWITCH} is {setting!r}; set it to on or off, or unset it.")
    if plt is None:
        return f"jax {jax.__version__} does not have"
    if _OFF.value:
        return "kernels.without_pallas_triton() switches off"
    return f"{SWITCH}=off switches off" if setting == "off" else None

"""Whether operations are traced as plain array code, for programs that leave this process."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax

# A context that the caches of traced programs see: a function that was traced without it is traced again within.
_ARRAY_CODE = jax.make_user_context(False)


@contextmanager
def array_code() -> Iterator[None]:
    """Trace every operation within as its reference, plain array code, whatever implementation is asked for.

    That is the form for programs which leave this process: it runs on every platform and takes symbolic shapes. It has
    second derivatives and those in forward mode, too. Its memory grows with points times latents.
    """
    with _ARRAY_CODE(True):
        yield


def wants_array_code() -> bool:
    """Tell whether `array_code` is in force, for code that chooses a form by numbers which are symbols there."""
    return _ARRAY_CODE.value

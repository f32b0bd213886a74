"""A jit for tests, where compiling takes longer than running."""

from collections.abc import Callable

import jax


def quick_jit(function: Callable, **options) -> Callable:
    """Return `jax.jit(function)` compiled without optimisation of the machine code, in about half the time."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0}, **options)

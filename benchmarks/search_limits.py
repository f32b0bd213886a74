"""Which tiles are worth compiling: a rough count of registers and shared memory on an H100.

The count is of what a program must hold at once; what the compiler adds is allowed for by the limits. A candidate that
passes may still fail to compile or spill, which its time then shows.
"""

# Of 255 registers a thread, some hold addresses, masks and operands of products.
MOST_NUMBERS_PER_THREAD = 208
SHARED_BYTES = 227 * 1024


def fits(*, numbers: int, warps: int, shared_bytes: int) -> bool:
    """Return whether a program with that many float32 numbers in registers and bytes of staged tiles can run well."""
    return numbers <= MOST_NUMBERS_PER_THREAD * 32 * warps and shared_bytes <= SHARED_BYTES

"""Order of the random numbers behind a Gaussian field, so that a sample is the same field on every grid.

The numbers belong to wave numbers, which are visited from the lowest upwards: a finer grid adds higher ones and changes
nothing below.
"""

from functools import cache

import numpy as np
from jaxtyping import Int


@cache
def quadrant(side: int) -> tuple[Int[np.ndarray, "N"], Int[np.ndarray, "N"]]:
    """Return the wave numbers p, q of 0 to side - 1, N = side², ordered by the larger of the two."""
    p, q = (number.ravel() for number in np.mgrid[0:side, 0:side])
    order = np.lexsort((q, p, np.maximum(p, q)))
    return p[order], q[order]


@cache
def plane(largest: int) -> tuple[Int[np.ndarray, "N"], Int[np.ndarray, "N"]]:
    """Return the wave numbers kx, ky of -largest to largest without (0, 0), ordered by the larger magnitude."""
    kx, ky = (number.ravel() for number in np.mgrid[-largest : largest + 1, -largest : largest + 1])
    order = np.lexsort((ky, kx, np.maximum(abs(kx), abs(ky))))[1:]
    return kx[order], ky[order]

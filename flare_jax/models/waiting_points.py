"""Where the points of a cloud wait between two blocks of a model, piece by piece."""

import os
from collections.abc import Iterator

import jax
import numpy as np
from jaxtyping import Array, Float

Piece = Float[Array, "B n C"]

KEEP = ("host", "device", "recompute")
_PAGE_LOCKED = "pinned_host"
# XLA's pool of page-locked memory, in GB, and the variable that changes it.
_POOL, _POOL_VARIABLE = 64, "XLA_PJRT_GPU_HOST_MEMORY_LIMIT_GB"


class WaitingPoints:
    """Pieces of a cloud of N points by number, on the "host" or on the "device".

    On the host they are in page-locked memory, which is copied from and to while the device works, as long as they fill
    at most half of XLA's pool; larger clouds are in memory as any array of the host, and are copied several times as
    slowly.
    """

    def __init__(self, keep: str, points: int):
        self.keep, self.points = keep, points
        self._pieces: dict[int, Array | np.ndarray] = {}
        self._sharding: jax.sharding.Sharding | None = None

    def __setitem__(self, number: int, x: Piece) -> None:
        """Keep a piece, in the room of the one that had its number."""
        self._sharding = x.sharding
        if self.keep == "device":
            self._pieces[number] = x
        elif self._locks_pages(x):
            self._pieces[number] = jax.device_put(x, x.sharding.with_memory_kind(_PAGE_LOCKED))
        else:
            self._pieces[number] = np.asarray(x)

    def __getitem__(self, number: int) -> Piece:
        """Return a piece on the device."""
        return jax.device_put(self._pieces[number], self._sharding)

    def __iter__(self) -> Iterator[Piece]:
        return (self[number] for number in range(len(self._pieces)))

    def _locks_pages(self, x: Piece) -> bool:
        size = self.points * x.nbytes // x.shape[1]
        kinds = {memory.kind for device in x.devices() for memory in device.addressable_memories()}
        return _PAGE_LOCKED in kinds and size <= 1e9 * float(os.environ.get(_POOL_VARIABLE, _POOL)) / 2

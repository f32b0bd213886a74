"""Where the points of a cloud wait between two blocks of a model, piece by piece."""

import os
from collections.abc import Iterator

import jax
import numpy as np
from jaxtyping import Array, Float

Piece = Float[Array, "B n C"]

KEEP = ("host", "device", "recompute")
_PAGE_LOCKED = "pinned_host"
# XLA's pool of page-locked memory, in GiB, and the variable that changes it; XLA takes no notice of other texts.
_POOL, _POOL_VARIABLE = 64, "XLA_PJRT_GPU_HOST_MEMORY_LIMIT_GB"


class WaitingPoints:
    """Pieces of a cloud of N points by number, on the "host" or on the "device".

    On the host they are in page-locked memory, which can be copied from and to while the device works, as long as they
    fill at most half of XLA's pool; larger clouds are in memory as any array of the host.
    """

    def __init__(self, keep: str, points: int):
        self.keep, self.points = keep, points
        self.pieces: dict[int, Array | np.ndarray] = {}
        self._sharding: jax.sharding.Sharding | None = None
        self._last: Array | None = None

    def __setitem__(self, number: int, x: Piece) -> None:
        """Keep a piece, in the room of the one that had its number."""
        self._sharding = x.sharding
        if self.keep == "device":
            self.pieces[number] = x
        elif self._locks_pages(x):
            copy = self.pieces[number] = jax.device_put(x, x.sharding.with_memory_kind(_PAGE_LOCKED))
            # A piece stays on the device until it is copied: without waiting, pieces would queue up there.
            last, self._last = self._last, copy
            jax.block_until_ready(last)
        else:
            self.pieces[number] = np.asarray(x)

    def __iter__(self) -> Iterator[Piece]:
        """Yield the pieces on the device, each one asked for before the work on the one before it begins."""
        ahead = self._on_device(0)
        for number in range(1, len(self.pieces)):
            current, ahead = ahead, self._on_device(number)
            yield current
        yield ahead

    def _on_device(self, number: int) -> Piece:
        return jax.device_put(self.pieces[number], self._sharding)

    def _locks_pages(self, x: Piece) -> bool:
        held = sum(shard.data.nbytes for shard in x.addressable_shards)  # of copies on several devices all
        size = self.points * held // x.shape[1]
        kinds = {memory.kind for device in x.devices() for memory in device.addressable_memories()}
        return _PAGE_LOCKED in kinds and size <= _pool_bytes() / 2


def _pool_bytes() -> int:
    try:
        return int(os.environ.get(_POOL_VARIABLE, _POOL)) * 2**30
    except ValueError:
        return _POOL * 2**30

"""What a training step of FLARE and FLARE++ communicates, and how long that takes on how many devices, as formulas."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

# Bytes of a float32 number, in which softmaxes, latents and gradients are summed.
_FLOAT = 4
_GATHERS = {"flare": 1, "flarepp": 2}


class Link(NamedTuple):
    """What connects the devices: bytes per second that a device sends while it receives, seconds of a smallest sum.

    `latency` is that over 2 devices; it is taken to grow with the logarithm of their number.
    """

    bandwidth: float
    latency: float

    def seconds(self, size: int, devices: int) -> float:
        """Return the seconds of a sum of `size` bytes of every device, of which each sends 2 (n − 1) / n times as many.

        Source: Patarasuk & Yuan 2009, the bound that ring algorithms reach.
        """
        if devices == 1:
            return 0.0
        return self.latency * math.log2(devices) + 2 * (devices - 1) / devices * size / self.bandwidth


def expected_sums(model: Any, parameters: int, batch: int, data: int, points: int) -> list[int] | None:
    """Return the bytes that every device gives into each sum of a step, None for a model without a formula.

    `model` is the section of its config, `batch` the samples of a device, `data` and `points` are the axes of the mesh.
    The number of points N does not appear. Once per step the gradients are summed. Where points are split, every block
    sums for each head and latent, forward, the maximum, then the mass and the weighted sum (1 and 1 + D numbers),
    backward the gradient of the latents (D). FLARE++ does so twice, for the queries and for the latents.
    """
    if model.type not in _GATHERS:
        return None
    sums = [_FLOAT * parameters] if data * points > 1 else []
    if points > 1:
        width = model.channel_dim // model.num_heads
        gathers = _GATHERS[model.type] * model.num_blocks * model.get("num_passes", 1)
        latents = _FLOAT * batch * model.num_heads * model.num_latents
        sums += gathers * [latents, latents * (1 + width), latents * width]
    return sums


def predicted(sums: Sequence[int], step_seconds: float, link: Link) -> Iterator[tuple[int, float, float]]:
    """Yield for 2, 4 … 1024 devices the efficiencies of weak and of strong scaling from the step of one device.

    Nothing of the communication is taken to be hidden behind computing.
    """
    for exponent in range(1, 11):
        devices = 2**exponent
        waiting = sum(link.seconds(size, devices) for size in sums)
        yield devices, step_seconds / (step_seconds + waiting), step_seconds / (step_seconds + devices * waiting)

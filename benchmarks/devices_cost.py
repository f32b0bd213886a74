"""What a training step of FLARE and FLARE++ communicates and how long that takes, as formulas."""

from typing import Any

# Bytes of a float32 number, in which softmaxes, latents and gradients are summed.
_FLOAT = 4


def expected_bytes(model: Any, parameters: int, batch: int, data: int, points: int) -> int | None:
    """Return the bytes that every device gives into sums per step, None for a model without a formula.

    `model` is the section of its config, `batch` the samples of a device, `data` and `points` are the axes of the mesh.
    The number of points N does not appear. Once per step the gradients are summed. Where points are split, every block
    sums for each head and latent, forward, the maximum, the mass and the weighted sum (1 + 1 + D numbers), backward
    the gradient of the latents (D). FLARE++ does so twice, for the queries and for the latents.
    """
    gathers = {"flare": 1, "flarepp": 2}.get(model.type)
    if gathers is None:
        return None
    gradients = _FLOAT * parameters if data * points > 1 else 0
    if points == 1:
        return gradients
    blocks = model.num_blocks * model.get("num_passes", 1)
    width = model.channel_dim // model.num_heads
    return gradients + blocks * gathers * _FLOAT * batch * model.num_heads * model.num_latents * (2 * width + 2)

"""The two one-way steps between points and latents: latents read all points, points read all latents."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from flare_jax.layers.sharding import on_each_device
from flare_jax.mixers.attention import STORED_WEIGHTS, softmax_attention
from flare_jax.mixers.chunks import map_over_chunks
from kernels import gather


def gather_points(
    q: Float[Array, "H M D"] | Float[Array, "B H M D"],
    k: Float[Array, "B N H D"],
    v: Float[Array, "B N H D"] | None = None,
    mask: Bool[Array, "B N"] | None = None,
    *,
    scale: float,
    implementation: str | None = None,
) -> Float[Array, "B H M D"]:
    """Return `softmax_N(scale · q kᵀ) v` over the real points, in float32; v None stands for k.

    `implementation` is that of `kernels.gather`.
    """

    def kernel(points: Any, q: Array, axis_name: str | None) -> Array:
        k, v, mask = points
        return gather(q, k, v, scale=scale, mask=mask, axis_name=axis_name, implementation=implementation)

    return on_each_device(
        kernel,
        (k, v, mask),
        q.astype(k.dtype),
        leading=k.shape[:2],
        implementation=implementation,
        over_points=True,
        per_sample=q.ndim == 4,
    )


def read_latents(
    q: Float[Array, "B N H D"], k: Float[Array, "B M H D"], v: Float[Array, "B M H D"], *, scale: float
) -> Float[Array, "B N H D"]:
    """Return `softmax_M(scale · q kᵀ) v` of points q and latents k, v; many points are worked on in chunks.

    Chunks are computed again in the backward pass, so that no array of all N · M weights is stored.
    """
    weights = q.shape[0] * q.shape[1] * q.shape[2] * k.shape[1]
    count = -(-weights // STORED_WEIGHTS)
    return map_over_chunks(lambda rows: softmax_attention(rows, k, v, scale=scale), [q], count)


def by_points(latents: Float[Array, "B H M D"]) -> Float[Array, "B M H D"]:
    """Return latents in the layout of points."""
    return jnp.swapaxes(latents, 1, 2)

"""The mixer of FLARE++ as three calls: a gather that makes the queries, and the FLARE mixer with them."""

from typing import NamedTuple

import jax
from jax import lax
from jaxtyping import Array, Bool, Float

from kernels.flare_mixer import flare_mixer
from kernels.gather import gather

# A number that the norms of some keys do not exceed, where one is known.
Largest = float | Float[Array, ""] | None


class Latents(NamedTuple):
    """What a mixer made on its way, float32 `[B, H, M, D]`: queries from the points, all queries, gathered values."""

    q_dynamic: jax.Array
    q: jax.Array
    z: jax.Array


def flarepp_mixer(
    q0: Float[Array, "H M D"],
    q_fixed: Float[Array, "H M D"],
    gate: Float[Array, "H"],
    k0: Float[Array, "B N H D"],
    k: Float[Array, "B N H D"],
    v: Float[Array, "B N H C"],
    v0: Float[Array, "B N H D"] | None = None,
    *,
    scale: float | int,
    mask: Bool[Array, "B N"] | None = None,
    largest_keys: tuple[Largest, Largest] = (None, None),
    axis_name: str | None = None,
    implementation: str | None = None,
    return_latents: bool = False,
    synthesis_precision: str | lax.Precision | None = "highest",
) -> Float[Array, "B N H C"] | tuple[Float[Array, "B N H C"], Latents]:
    """Mix points through latents whose queries are made from the points.

    `Qd = softmax_N(scale q0 k0ᵀ) v0`, `Q = q_fixed + gate · Qd`, then gather and scatter as in `flare_mixer` with the
    queries Q of each sample. Without v0 the values of the first call are its keys. `gate` has one number per head.
    Norms and projections belong to the model. `largest_keys` are numbers that the norms of k0 and of k do not exceed,
    each as `largest_key` in `gather`; `synthesis_precision` is the `precision` of the first gather. `mask`, `axis_name`
    and `implementation` are as in `flare_mixer`.
    Returns y in the dtype of v, with `return_latents` also the `Latents`.

    Raises ValueError as `gather` and `flare_mixer` do.

    Source: FLARE++, arXiv 2608.11519; the maths is in README.md.
    """
    shared = {"scale": scale, "mask": mask, "axis_name": axis_name, "implementation": implementation}
    q_dynamic = gather(q0, k0, v0, largest_key=largest_keys[0], precision=synthesis_precision, **shared)
    q = q_fixed + gate[:, None, None] * q_dynamic
    y, z = flare_mixer(q.astype(k.dtype), k, v, largest_key=largest_keys[1], return_latents=True, **shared)
    return (y, Latents(q_dynamic, q, z)) if return_latents else y

"""Statistics of FLARE's attention scores: their range, and how sharp the two softmaxes are."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from flare_jax.analysis.spectrum import SCORE_CLIP


class ScoreStatistics(NamedTuple):
    """Statistics over the latents and real points of every sample and head.

    Entropies are relative to that of uniform weights: 1 is uniform, 0 a single point or latent.
    """

    minimum: Float[Array, "B H"]
    maximum: Float[Array, "B H"]
    mean: Float[Array, "B H"]
    deviation: Float[Array, "B H"]
    clipped: Float[Array, "B H"]
    encode_entropy: Float[Array, "B H"]
    decode_entropy: Float[Array, "B H"]


def score_statistics(scores: Float[Array, "B H M N"], mask: Bool[Array, "B N"] | None = None) -> ScoreStatistics:
    """Return the statistics of scaled logits; `clipped` is the fraction outside the range that the spectrum keeps.

    `encode_entropy` is that of softmax_N, averaged over latents; `decode_entropy` of softmax_M, averaged over points.
    """
    if mask is None:
        mask = jnp.ones((scores.shape[0], scores.shape[-1]), bool)
    real = mask[:, None, None, :]
    scores = jnp.where(real, scores.astype(jnp.float32), 0)
    inside = jnp.broadcast_to(real, scores.shape)
    axes = (-2, -1)
    encode = _entropy(jnp.where(real, scores, -jnp.inf), axis=-1).mean(-1)
    decode = _entropy(scores, axis=-2).mean(-1, where=real[:, :, 0])
    count = mask.sum(-1)[:, None]
    return ScoreStatistics(
        minimum=scores.min(axes, where=inside, initial=jnp.inf),
        maximum=scores.max(axes, where=inside, initial=-jnp.inf),
        mean=scores.mean(axes, where=inside),
        deviation=scores.std(axes, where=inside),
        clipped=(jnp.abs(scores) > SCORE_CLIP).mean(axes, where=inside),
        encode_entropy=encode / jnp.log(jnp.maximum(count, 2)),
        decode_entropy=decode / jnp.log(max(scores.shape[-2], 2)),
    )


def _entropy(logits: Float[Array, "B H M N"], *, axis: int) -> Float[Array, "B H _"]:
    """Return the entropy of the softmax along `axis`, in nats."""
    logarithms = jax.nn.log_softmax(logits, axis=axis)
    weights = jnp.exp(logarithms)
    return -jnp.sum(weights * jnp.where(weights > 0, logarithms, 0), axis=axis)

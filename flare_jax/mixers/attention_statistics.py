"""Statistics of softmax attention over many points, without the matrix of its weights."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from flare_jax.mixers.softmax_sums import finite_or_zero

CHUNK = 4096
_SMALLEST = 1e-12


class _Sums(NamedTuple):
    """Sums over the points seen so far of exp(S − maximum), of itself times S − maximum, and of its square."""

    maximum: Float[Array, "B H M"]
    mass: Float[Array, "B H M"]
    weighted: Float[Array, "B H M"]
    squares: Float[Array, "B H M"]


def attention_statistics(
    q: Float[Array, "H M D"] | Float[Array, "B H M D"],
    k: Float[Array, "B N H D"],
    mask: Bool[Array, "B N"] | None = None,
    *,
    scale: float,
    chunk: int = CHUNK,
) -> tuple[Float[Array, "B H M"], Float[Array, "B H M"]]:
    """Return entropy −Σ P log P (natural logarithm) and effective number of points 1/Σ P² of P = softmax_N(scale q kᵀ).

    Points where `mask` is False take no part. The sums run over chunks of points, in float32.
    """
    b, n, h, _ = k.shape
    q = jnp.broadcast_to(q, (b, h, *q.shape[-2:])).astype(jnp.float32)
    chunk = min(chunk, n)
    real = jnp.ones((b, n), bool) if mask is None else mask
    padding = -n % chunk
    k = jnp.where(real[..., None, None], k, 0)
    k = jnp.pad(k, ((0, 0), (0, padding), (0, 0), (0, 0)))
    real = jnp.pad(real, ((0, 0), (0, padding)))
    chunks = (_chunked(k, chunk), _chunked(real, chunk))

    def add(sums: _Sums, piece: tuple[Array, Array]) -> tuple[_Sums, None]:
        k, real = piece
        logits = scale * jnp.einsum("bhmd,bnhd->bhmn", q, k.astype(jnp.float32), precision="highest")
        logits = jnp.where(real[:, None, None, :], logits, -jnp.inf)
        maximum = jnp.maximum(sums.maximum, logits.max(-1))
        shift = jnp.where(jnp.isfinite(sums.maximum), sums.maximum - maximum, 0)
        factor = jnp.exp(shift)
        distance = jnp.where(real[:, None, None, :], logits - finite_or_zero(maximum)[..., None], 0)
        weights = jnp.where(real[:, None, None, :], jnp.exp(distance), 0)
        return _Sums(
            maximum,
            factor * sums.mass + weights.sum(-1),
            factor * (sums.weighted + shift * sums.mass) + (weights * distance).sum(-1),
            factor**2 * sums.squares + jnp.square(weights).sum(-1),
        ), None

    zero = jnp.zeros(q.shape[:3], jnp.float32)
    sums, _ = jax.lax.scan(add, _Sums(zero - jnp.inf, zero, zero, zero), chunks)
    mass = jnp.maximum(sums.mass, _SMALLEST)
    entropy = jnp.log(mass) - sums.weighted / mass
    return entropy, 1 / jnp.maximum(sums.squares / mass**2, _SMALLEST)


def root_mean_square(x: Float[Array, "B ..."], mask: Bool[Array, "B N"] | None = None) -> Float[Array, ""]:
    """Return the mean over samples of √(mean of x² over all other axes), in float32; with a mask over real points."""
    squares = jnp.square(x.astype(jnp.float32))
    if mask is None:
        return jnp.sqrt(squares.mean(tuple(range(1, x.ndim)))).mean()
    real = mask.reshape(*mask.shape, *[1] * (x.ndim - 2))
    total = jnp.where(real, squares, 0).sum(tuple(range(1, x.ndim)))
    count = jnp.maximum(mask.sum(1) * (x[0, 0].size), 1)
    return jnp.sqrt(total / count).mean()


def mean_cosine(q: Float[Array, "*B M D"]) -> Float[Array, ""]:
    """Return the mean cosine between different rows, averaged over the leading axes; NaN where there is one row."""
    m = q.shape[-2]
    if m == 1:
        return jnp.asarray(jnp.nan)
    unit = q / jnp.maximum(jnp.linalg.norm(q, axis=-1, keepdims=True), _SMALLEST)
    products = jnp.einsum("...md,...kd->...mk", unit, unit, precision="highest")
    return ((products.sum((-1, -2)) - jnp.trace(products, axis1=-2, axis2=-1)) / (m * (m - 1))).mean()


def _chunked(x: Array, chunk: int) -> Array:
    """Return x [B, N, ...] as [N / chunk, B, chunk, ...]."""
    return jnp.moveaxis(x.reshape(x.shape[0], -1, chunk, *x.shape[2:]), 1, 0)

"""Spectrum of FLARE's token mixing, from the attention scores of a block (FLARE, arXiv 2508.12594, spectral analysis).

Per head FLARE multiplies values by `W = softmax_M(S)ᵀ softmax_N(S)` [N, N], of rank M at most. With `A = exp(S)`, row
sums `r` and column sums `c`, W is similar to `Bᵀ B` where `B = diag(r)^-½ A diag(c)^-½` [M, N]; so its non-zero
eigenvalues are those of the small symmetric matrix `B Bᵀ`, all in [0, 1] and the largest 1. N × N is never formed.
"""

from types import ModuleType
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_choice, check_positive

SCORE_CLIP = 30.0


class Spectrum(NamedTuple):
    """Eigenvalues [B, H, M] of W in descending order; on request its right eigenvectors [B, H, N, M], as columns x_m.

    They are normalised by `Σ_n c_n x_nm² = 1` with the column sums c [B, H, N] of exp(scores), which are given as their
    logarithm; signs are arbitrary. Columns of numerically vanishing eigenvalues and rows of padded points are zero.
    """

    eigenvalues: Any
    eigenvectors: Any | None
    log_column_sums: Any


def mixing_spectrum(
    scores: Float[Array, "B H M N"] | Float[np.ndarray, "B H M N"],
    mask: Bool[Array, "B N"] | Bool[np.ndarray, "B N"] | None = None,
    *,
    clip: float | None = SCORE_CLIP,
    precision: Literal["float32", "float64"] = "float32",
    eigenvectors: bool = False,
) -> Spectrum:
    """Return the spectrum of the token mixing of every sample and head.

    `scores` are scaled logits, limited to ±`clip` (None: not at all); `mask` is True for real points. 'float32' runs on
    the default device, 'float64' in numpy. Sums of exponentials are kept as logarithms, so that any logit is safe.
    Raises ValueError if a score of a real point is NaN, or infinite without `clip`.
    """
    check_choice("precision", precision, ("float32", "float64"))
    xp = jnp if precision == "float32" else np
    scores = xp.asarray(scores, precision)
    mask = None if mask is None else xp.asarray(mask, bool)
    with jax.default_matmul_precision("highest"):
        factor, log_columns = _symmetric_factor(xp, scores, mask, clip)
        gram = factor @ factor.mT
        if not bool(xp.isfinite(gram).all()):
            raise ValueError(
                "the scores give a spectrum matrix with NaN or Inf; check model parameters and inputs for NaN"
            )
        values, vectors = xp.linalg.eigh(gram)
        values = xp.maximum(values[..., ::-1], 0)
        right = _right_eigenvectors(xp, factor, log_columns, values, vectors[..., ::-1]) if eigenvectors else None
    return Spectrum(values, right, log_columns)


def mixing_eigenvalues(
    scores: Float[Array, "B H M N"], mask: Bool[Array, "B N"] | None = None, *, clip: float | None = SCORE_CLIP
) -> tuple[Float[Array, "B H M"], Bool[Array, "B"]]:
    """Return the eigenvalues in float32, and for each sample whether they come from finite numbers; can be jitted."""
    with jax.default_matmul_precision("highest"):
        factor, _ = _symmetric_factor(jnp, scores.astype(jnp.float32), mask, clip)
        gram = factor @ factor.mT
        values = jnp.linalg.eigvalsh(gram)[..., ::-1]
    return jnp.maximum(values, 0), jnp.isfinite(gram).all((1, 2, 3))


def effective_rank(eigenvalues: Float[Array, "B H M"] | Float[np.ndarray, "B H M"]) -> Float[np.ndarray, "B H"]:
    """Return exp(entropy of the eigenvalues normalised to sum 1), between 1 and M (Roy and Vetterli, 2007)."""
    values = np.asarray(eigenvalues, np.float64)
    weights = values / values.sum(-1, keepdims=True)
    return np.exp(-np.sum(weights * np.log(np.where(weights > 0, weights, 1.0)), axis=-1))


def _symmetric_factor(xp: ModuleType, scores: Any, mask: Any | None, clip: float | None) -> tuple[Any, Any]:
    """Return B = diag(r)^-½ A diag(c)^-½ [..., M, N] and log c [..., N]; columns of padded points are zero."""
    if clip is not None:
        scores = xp.clip(scores, -check_positive("clip", clip), clip)
    if mask is not None:
        mask = mask[:, None, None, :]
        scores = xp.where(mask, scores, 0)
    log_columns = _log_sum_exp(xp, scores, -2)
    log_rows = _log_sum_exp(xp, scores if mask is None else xp.where(mask, scores, -xp.inf), -1)
    factor = xp.exp(scores - 0.5 * (log_rows + log_columns))
    return (factor if mask is None else xp.where(mask, factor, 0)), log_columns[..., 0, :]


def _log_sum_exp(xp: ModuleType, scores: Any, axis: int) -> Any:
    peak = scores.max(axis=axis, keepdims=True)
    return peak + xp.log(xp.exp(scores - peak).sum(axis=axis, keepdims=True))


def _right_eigenvectors(xp: ModuleType, factor: Any, log_columns: Any, values: Any, vectors: Any) -> Any:
    """Return X = diag(c)^-½ Bᵀ U diag(λ)^-½, with zero columns where λ is below float32 rounding of the largest."""
    present = values >= np.finfo(np.float32).eps * values[..., :1]
    inverse_root = xp.where(present, 1 / xp.sqrt(xp.where(present, values, 1)), 0)
    return xp.exp(-0.5 * log_columns)[..., None] * (factor.mT @ vectors) * inverse_root[..., None, :]

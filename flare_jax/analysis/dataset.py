"""Spectra and score statistics of a model over a data set, one batch at a time."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from flare_jax.analysis.scores import ScoreStatistics, score_statistics
from flare_jax.analysis.spectrum import SCORE_CLIP, mixing_eigenvalues
from flare_jax.params import apply_fn


class BlockAnalysis(NamedTuple):
    """One block over all cases: eigenvalues [B, H, M] of its token mixing, statistics [B, H] of its scores."""

    eigenvalues: Float[np.ndarray, "B H M"]
    statistics: ScoreStatistics


def dataset_analysis(
    graphdef: nnx.GraphDef,
    params: Mapping[str, Any],
    batches: Iterable[tuple[Any, Any]],
    *,
    clip: float | None = SCORE_CLIP,
) -> tuple[BlockAnalysis, ...]:
    """Return, for every block, the spectrum of its token mixing and the statistics of its scores for all cases.

    `graphdef` and `params` come from `flare_jax.params.split` of a model that takes `return_scores`; `batches` yields
    pairs (x [B, N, C_in], mask [B, N] or None), where N may differ between batches. Samples without a real point are
    left out, as they only fill up a batch. Raises ValueError if the model has no scores, if a spectrum is not finite,
    or if there are no cases.
    """
    apply = apply_fn(graphdef)

    @jax.jit
    def analyse(
        params: Mapping[str, Any], x: Float[Array, "B N C_in"], mask: Bool[Array, "B N"] | None
    ) -> tuple[tuple[Array, Array, ScoreStatistics], ...]:
        # Nothing uses the prediction, so the compiler drops what only it needs.
        _, scores = apply(params, x, mask, return_scores=True)
        return tuple((*mixing_eigenvalues(block, mask, clip=clip), score_statistics(block, mask)) for block in scores)

    collected: list[tuple[BlockAnalysis, ...]] = []
    for index, (x, mask) in enumerate(batches):
        real = np.ones(len(x), bool) if mask is None else np.asarray(mask).any(-1)
        blocks = jax.device_get(analyse(params, x, mask))
        for number, (_, finite, _) in enumerate(blocks):
            if not finite[real].all():
                raise ValueError(
                    f"the spectrum matrix of block {number} holds NaN or Inf in batch {index}; "
                    "check the model's parameters and that batch for NaN"
                )
        kept = [BlockAnalysis(values, statistics) for values, _, statistics in blocks]
        collected.append(tuple(jax.tree.map(lambda array: array[real], block) for block in kept))
    if not collected:
        raise ValueError("batches is empty, so there is no case to analyse; pass at least one batch")
    return tuple(jax.tree.map(lambda *arrays: np.concatenate(arrays), *block) for block in zip(*collected, strict=True))


def dataset_eigenvalues(
    graphdef: nnx.GraphDef,
    params: Mapping[str, Any],
    batches: Iterable[tuple[Any, Any]],
    *,
    clip: float | None = SCORE_CLIP,
) -> tuple[Float[np.ndarray, "B H M"], ...]:
    """Return the eigenvalues alone of `dataset_analysis`, with the same arguments and errors."""
    return tuple(block.eigenvalues for block in dataset_analysis(graphdef, params, batches, clip=clip))

"""Spectra of a model over a data set, one batch at a time."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from flare_jax.analysis.spectrum import SCORE_CLIP, mixing_eigenvalues
from flare_jax.params import apply_fn


def dataset_eigenvalues(
    graphdef: nnx.GraphDef,
    params: Mapping[str, Any],
    batches: Iterable[tuple[Any, Any]],
    *,
    clip: float | None = SCORE_CLIP,
) -> tuple[Float[np.ndarray, "B H M"], ...]:
    """Return, for every block, the eigenvalues of its token mixing for all cases of a data set, B counting cases.

    `graphdef` and `params` come from `flare_jax.params.split` of a model that takes `return_scores`; `batches` yields
    pairs (x [B, N, C_in], mask [B, N] or None), where N may differ between batches. Samples without a real point are
    left out, as they only fill up a batch. Raises ValueError if the model has no scores, if a spectrum is not finite,
    or if there are no cases.
    """
    apply = apply_fn(graphdef)

    @jax.jit
    def eigenvalues(
        params: Mapping[str, Any], x: Float[Array, "B N C_in"], mask: Bool[Array, "B N"] | None
    ) -> tuple[tuple[Array, Array], ...]:
        # Nothing uses the prediction, so the compiler drops what only it needs.
        _, scores = apply(params, x, mask, return_scores=True)
        return tuple(mixing_eigenvalues(block, mask, clip=clip) for block in scores)

    collected: list[list[np.ndarray]] = []
    for index, (x, mask) in enumerate(batches):
        real = np.ones(len(x), bool) if mask is None else np.asarray(mask).any(-1)
        blocks = jax.device_get(eigenvalues(params, x, mask))
        for number, (_, finite) in enumerate(blocks):
            if not finite[real].all():
                raise ValueError(
                    f"the spectrum matrix of block {number} holds NaN or Inf in batch {index}; "
                    "check the model's parameters and that batch for NaN"
                )
        collected.append([values[real] for values, _ in blocks])
    if not collected:
        raise ValueError("batches is empty, so there is no case to analyse; pass at least one batch")
    return tuple(np.concatenate(block) for block in zip(*collected, strict=True))

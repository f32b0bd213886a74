"""Figures of FLARE's spectra; they are returned, and the caller saves them (`figure.savefig('eigenvals.png')`)."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_ROUNDING = float(np.finfo(np.float32).eps)
_PUBLICATION_RANGE = (1e-8, 2.0)


def eigenvalue_figure(spectra: Sequence[Float[np.ndarray, "B H M"]]) -> Figure:
    """Return a figure (`eigenvals.png`) of all blocks: every head's eigenvalues, averaged over cases, by their index.

    `spectra` holds the eigenvalues [cases, H, M] of each block, in descending order.
    """
    _check_spectra(spectra)
    rows = math.ceil(math.sqrt(len(spectra)))
    columns = math.ceil(len(spectra) / rows)
    figure = Figure(figsize=(4 * columns, 3 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for number, (block, panel) in enumerate(zip(spectra, panels, strict=False), start=1):
        _draw_block(panel, block)
        panel.set_title(f"Block {number}")
    for panel in panels[len(spectra) :]:
        panel.set_axis_off()
    return figure


def spectra_figure(spectra: Sequence[Float[np.ndarray, "B H M"]]) -> Figure:
    """Return a figure (`spectra.pdf`) of the first, middle and last block, in the paper's range of eigenvalues."""
    _check_spectra(spectra)
    chosen = sorted({0, len(spectra) // 2, len(spectra) - 1})
    figure = Figure(figsize=(4 * len(chosen), 3.2), layout="constrained")
    for panel, index in zip(figure.subplots(1, len(chosen), squeeze=False).flat, chosen, strict=True):
        _draw_block(panel, spectra[index])
        panel.set_ylim(*_PUBLICATION_RANGE)
        panel.set_title(f"Block {index + 1}")
    return figure


def _draw_block(panel: Axes, eigenvalues: Float[np.ndarray, "B H M"]) -> None:
    """Draw the mean spectrum of each head, the index M − 1 and the float32 rounding level."""
    for head, mean in enumerate(eigenvalues.mean(0)):
        panel.semilogy(np.arange(mean.size), np.where(mean > 0, mean, np.nan), linewidth=1, label=f"head {head}")
    panel.axvline(eigenvalues.shape[-1] - 1, color="black", linestyle="--", linewidth=0.8)
    panel.axhline(_ROUNDING, color="grey", linestyle=":", linewidth=0.8)
    panel.set_xlabel("index")
    panel.set_ylabel("eigenvalue")


def _check_spectra(spectra: Sequence[np.ndarray]) -> None:
    if not spectra:
        raise ValueError("spectra is empty, so there is nothing to draw; pass the eigenvalues of at least one block")

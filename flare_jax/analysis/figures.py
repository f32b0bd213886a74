"""Figures of FLARE's spectra and scores; they are returned, and the caller saves them (`figure.savefig('a.png')`)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flare_jax.analysis.dataset import BlockAnalysis
from flare_jax.analysis.spectrum import effective_rank

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


def energy_figure(energies: Mapping[str, Float[np.ndarray, "K C"]], fields: Sequence[str], title: str = "") -> Figure:
    """Return a figure (`energy.png`) with a panel for each of `fields`: energies over the wave number, by their names.

    `energies` are those of `radial_energy`, averaged over cases; shell 0, the mean of a field, is left out.
    """
    figure = Figure(figsize=(1 + 4.2 * len(fields), 4), layout="constrained")
    styles = ({"color": "black"}, {"color": "#0b6fa4"}, {"color": "#d1662a", "linestyle": "--"})
    panels = figure.subplots(1, len(fields), squeeze=False).flat
    for channel, (panel, field) in enumerate(zip(panels, fields, strict=True)):
        for (name, values), style in zip(energies.items(), styles, strict=False):
            panel.loglog(np.arange(1, len(values)), values[1:, channel], label=name, **style)
        panel.set_title(field)
        panel.set_xlabel("wave number")
        panel.set_ylabel("energy")
        panel.grid(alpha=0.3, which="both", linewidth=0.5)
    figure.axes[0].legend(frameon=False)
    figure.suptitle(title)
    return figure


def score_figure(blocks: Sequence[BlockAnalysis]) -> Figure:
    """Return a figure (`scores.png`) of every block and head: effective rank, and how even the two softmaxes are."""
    _check_spectra(blocks)
    ranks = np.stack([effective_rank(block.eigenvalues).mean(0) for block in blocks])
    latents = blocks[0].eigenvalues.shape[-1]
    panels = [
        (f"Effective rank (of {latents})", ranks, latents),
        ("Entropy of the gather (1: uniform)", _mean_over_cases(blocks, "encode_entropy"), 1),
        ("Entropy of the scatter (1: uniform)", _mean_over_cases(blocks, "decode_entropy"), 1),
    ]
    figure = Figure(figsize=(4 * len(panels), 1.5 + 0.3 * len(blocks)), layout="constrained")
    for axes, (title, values, largest) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        image = axes.imshow(values, vmin=0, vmax=largest, aspect="auto")
        axes.set_title(title)
        axes.set_xlabel("head")
        axes.set_yticks(range(len(blocks)), [str(number) for number in range(1, len(blocks) + 1)])
        axes.set_ylabel("block")
        figure.colorbar(image, ax=axes)
    return figure


def _mean_over_cases(blocks: Sequence[BlockAnalysis], field: str) -> np.ndarray:
    """Return a statistic of the scores, averaged over cases, as [blocks, H]."""
    return np.stack([getattr(block.statistics, field).mean(0) for block in blocks])


def _draw_block(panel: Axes, eigenvalues: Float[np.ndarray, "B H M"]) -> None:
    """Draw the mean spectrum of each head, the index M − 1 and the float32 rounding level."""
    for head, mean in enumerate(eigenvalues.mean(0)):
        panel.semilogy(np.arange(mean.size), np.where(mean > 0, mean, np.nan), linewidth=1, label=f"head {head}")
    panel.axvline(eigenvalues.shape[-1] - 1, color="black", linestyle="--", linewidth=0.8)
    panel.axhline(_ROUNDING, color="grey", linestyle=":", linewidth=0.8)
    panel.set_xlabel("index")
    panel.set_ylabel("eigenvalue")


def _check_spectra(spectra: Sequence[Any]) -> None:
    if not spectra:
        raise ValueError("spectra is empty, so there is nothing to draw; pass the eigenvalues of at least one block")

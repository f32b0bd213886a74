"""Analysis of what models learn: scores, spectra, ranks, energies of fields. Figures: `flare_jax.analysis.figures`."""

from flare_jax.analysis.dataset import BlockAnalysis, dataset_analysis, dataset_eigenvalues
from flare_jax.analysis.energy import radial_energy, whole_shells
from flare_jax.analysis.scores import ScoreStatistics, score_statistics
from flare_jax.analysis.spectrum import Spectrum, effective_rank, mixing_eigenvalues, mixing_spectrum

__all__ = [
    "BlockAnalysis",
    "ScoreStatistics",
    "Spectrum",
    "dataset_analysis",
    "dataset_eigenvalues",
    "effective_rank",
    "mixing_eigenvalues",
    "mixing_spectrum",
    "radial_energy",
    "score_statistics",
    "whole_shells",
]

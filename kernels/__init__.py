"""GPU operations without any Flax; each has a plain reference implementation beside its fast ones."""

from kernels.flare_mixer import flare_mixer
from kernels.residual_mlp import residual_mlp, residual_mlp_branches

__all__ = ["flare_mixer", "residual_mlp", "residual_mlp_branches"]

"""GPU operations without any Flax; each has a plain reference implementation beside its fast ones."""

from kernels.flare_mixer import flare_mixer

__all__ = ["flare_mixer"]

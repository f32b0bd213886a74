"""The FLARE token mixer: gather points into latents, scatter latents back to points; see README.md for the maths."""

from kernels.flare_mixer.api import flare_mixer

__all__ = ["flare_mixer"]

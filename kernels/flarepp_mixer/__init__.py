"""The token mixer of FLARE++: queries made from the points, then gather and scatter; see README.md."""

from kernels.flarepp_mixer.api import Latents, flarepp_mixer

__all__ = ["Latents", "flarepp_mixer"]

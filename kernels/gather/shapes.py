"""Named shapes of the gather, for tests and benchmarks; values are the keys, as in FLARE++."""

from kernels.flare_mixer.shapes import SHAPES as MIXER_SHAPES

SHAPES = {name: MIXER_SHAPES[name] for name in ("elasticity", "million_m128")}

"""GPU operations without any Flax; each has a plain reference implementation beside its fast ones."""

# A package of flare_jax (see flare_jax_programs.py).

from kernels._array_code import array_code, wants_array_code
from kernels._cudnn import fused_attention, fused_reading
from kernels._products import side_by_side, times_matrix
from kernels._target import platform
from kernels._triton_lowering import without_pallas_triton
from kernels.causal_flare import causal_flare, stablemax_flare
from kernels.causal_linear_attention import causal_linear_attention, gated_linear_attention
from kernels.flare_mixer import flare_mixer
from kernels.flarepp_mixer import flarepp_mixer
from kernels.gather import gather
from kernels.residual_mlp import residual_mlp, residual_mlp_branches
from kernels.triple_attention import triple_attention

__all__ = [
    "array_code",
    "causal_flare",
    "causal_linear_attention",
    "flare_mixer",
    "flarepp_mixer",
    "fused_attention",
    "fused_reading",
    "gated_linear_attention",
    "gather",
    "platform",
    "residual_mlp",
    "residual_mlp_branches",
    "side_by_side",
    "stablemax_flare",
    "times_matrix",
    "triple_attention",
    "wants_array_code",
    "without_pallas_triton",
]

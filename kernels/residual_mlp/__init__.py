"""Residual MLPs fused into one kernel, with the norm, projection and residuals around them; see README.md."""

from kernels.residual_mlp.api import residual_mlp, residual_mlp_branches
from kernels.residual_mlp.operands import HeadNorm, Norm, Projection

__all__ = ["HeadNorm", "Norm", "Projection", "residual_mlp", "residual_mlp_branches"]

"""Causal linear attention with carried states, forward and backward in parallel over N; README.md has the maths."""

from kernels.causal_linear_attention.api import causal_linear_attention
from kernels.causal_linear_attention.gated import gated_linear_attention

__all__ = ["causal_linear_attention", "gated_linear_attention"]

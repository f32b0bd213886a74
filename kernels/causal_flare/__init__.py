"""The causal FLARE mixer: training and prefill over whole sequences, decoding in constant memory (README.md)."""

from kernels.causal_flare.api import causal_flare
from kernels.causal_flare.decode import decode_step, init_state
from kernels.causal_flare.operands import State

__all__ = ["State", "causal_flare", "decode_step", "init_state"]

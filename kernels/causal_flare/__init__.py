"""The causal FLARE mixer: training and prefill over whole sequences, decoding in constant memory (README.md)."""

from kernels.causal_flare.api import causal_flare
from kernels.causal_flare.decode import decode_step, init_state
from kernels.causal_flare.operands import State
from kernels.causal_flare.stablemax import StablemaxState, init_stablemax_state, stablemax_flare

__all__ = [
    "StablemaxState",
    "State",
    "causal_flare",
    "decode_step",
    "init_stablemax_state",
    "init_state",
    "stablemax_flare",
]

"""Triple attention: a third-order state instead of pairwise scores, cost O(N D³); see README.md for the maths."""

from kernels.triple_attention.api import triple_attention

__all__ = ["triple_attention"]

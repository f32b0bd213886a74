"""The powers of two that the operands of the mixer's kernels are multiplied by."""

from typing import NamedTuple

from kernels._scales import Exponent, key_exponent, latent_exponent, logit_factor, point_exponent
from kernels.flare_mixer.operands import Operands


class Exponents(NamedTuple):
    """By which power of two each operand is multiplied."""

    q: Exponent
    k: Exponent
    v: Exponent
    q_decode: Exponent
    k_decode: Exponent

    @property
    def gather_factor(self) -> Exponent:
        """By which power of two the gather's logits are multiplied after their product."""
        return logit_factor(-(self.q + self.k))

    @property
    def scatter_factor(self) -> Exponent:
        """By which power of two the scatter's logits are multiplied after their product."""
        return logit_factor(-(self.q_decode + self.k_decode))


def operand_exponents(operands: Operands) -> Exponents:
    """Return the exponents of all operands; the decode pair's are those of q and k where it shares them."""
    mask = operands.mask
    pair = latent_exponent(operands.q), key_exponent(operands.k, mask, operands.largest_key)
    decode = pair
    if operands.separate:
        decode = latent_exponent(operands.q_decode), point_exponent(operands.k_decode, mask)
    return Exponents(*pair, point_exponent(operands.v, mask), *decode)

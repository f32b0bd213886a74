"""The adapter to cuDNN's attention, for even and odd lengths, run through XLA's attention of the same interface."""

import jax
import pytest

from kernels import _cudnn
from kernels.flare_mixer.cudnn import cudnn_mixer
from kernels.flare_mixer.operands import Operands
from tests.kernels.flare_mixer.cases import Case, expected, inputs
from tests.numerics import assert_close, cotangent, round_to_bfloat16

CASES = [
    Case(width=4),
    Case(masked=True, width=16, channels=20, scale=0.3, points=38),
    Case(masked=True, decode_width=12, per_sample=True),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_padding_and_mask_column_are_exact(case, monkeypatch):
    monkeypatch.setattr(_cudnn, "IMPLEMENTATION", "xla")
    arguments = inputs(case)
    mask = arguments.pop("mask", None)

    def evaluate(floats):
        operands = Operands(floats["q"], floats["k"], floats["v"], floats.get("q_decode"), floats.get("k_decode"), mask)
        (y, z), pull_back = jax.vjp(lambda o: cudnn_mixer(o, scale=case.scale), operands)
        dy, dz = (cotangent(i, x.shape) for i, x in enumerate((y, z)))
        (gradients,) = pull_back((round_to_bfloat16(dy).astype(y.dtype), dz))
        return {"y": y, "z": z} | {f"d{name}": getattr(gradients, name) for name in floats}

    actual = jax.jit(evaluate)(arguments)
    for name, value in expected(case).items():
        assert_close(name, actual[name], value, 1e-5)

"""Bad arguments of the mixer of FLARE++ give one sentence with the value and the remedy."""

import inspect

import jax.numpy as jnp
import pytest

from kernels import flarepp_mixer
from tests.kernels.flarepp_mixer.cases import Case, inputs

# The annotations are checked in tests, before the arguments are.
unchecked = inspect.unwrap(flarepp_mixer)
GOOD = inputs(Case(masked=True, values=True)) | {"scale": 0.5}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q0": GOOD["q0"][..., :3]}, r"q0 has shape \(2,8,3\), which does not fit k0"),
        ({"q0": GOOD["q0"][None].repeat(2, 0)}, r"q0 has \(2,2,8,8\); give both one shape \[H,M,D\]"),
        ({"q_fixed": GOOD["q_fixed"][:, :3]}, r"q_fixed has shape \(2,3,8\) and q0 has \(2,8,8\); give both"),
        ({"q_fixed": GOOD["q_fixed"][..., :3]}, r"q_fixed has shape \(2,8,3\), which does not fit k"),
        ({"gate": GOOD["gate"][:1]}, r"gate has shape \(1,\); give one number for each of the 2 heads"),
        ({"v0": GOOD["v0"][..., :4]}, r"v0 has shape \(2,37,2,4\), which does not fit k \(2,37,2,8\)"),
        # A width of its own for the first gather: the kernels for few points read both queries as one array.
        (
            {"k0": GOOD["k0"][..., :4], "q0": GOOD["q0"][..., :4]},
            r"q_fixed has shape \(2,8,8\) and q0 has \(2,8,4\); give both one shape",
        ),
        ({"k0": GOOD["k0"][:, :0]}, r"k0 has shape \(2,0,2,8\); give a non-empty array"),
        ({"gate": jnp.ones(2, int)}, "gate has dtype int32; cast it to float32"),
        ({"q_fixed": jnp.ones((2, 8, 8), int)}, "q_fixed has dtype int32; cast it to float32"),
        ({"largest_keys": 1.0}, "largest_keys is 1.0; give two numbers"),
        ({"largest_keys": (1.0, None, 1.0)}, r"largest_keys is \(1.0, None, 1.0\); give two numbers"),
        ({"largest_keys": (None, -1.0)}, r"largest_keys\[1\] is -1.0; give a finite number"),
        ({"largest_keys": ("a", None)}, r"largest_keys\[0\] is 'a'; give a finite number"),
        ({"k": GOOD["k"][:, :3]}, r"v has shape \(2,37,2,8\) and k has \(2,3,2,8\)"),
        ({"k0": GOOD["k0"][:, :3], "v0": None, "mask": None}, r"k0 has shape \(2,3,2,8\) and k has \(2,37,2,8\)"),
        ({"scale": 0.0}, "scale is 0.0; give a positive finite number"),
        ({"implementation": "cudnn"}, "implementation is 'cudnn'; give one of reference, xla, pallas"),
        ({"axis_name": "points"}, "axis_name is 'points', which is no mesh axis here"),
    ],
    ids=lambda x: x if isinstance(x, str) else next(iter(x)),
)
def test_one_sentence(change, message):
    with pytest.raises(ValueError, match=message):
        unchecked(**(GOOD | change))

"""Bad arguments of the gather give one sentence with the value and the remedy."""

import inspect

import jax.numpy as jnp
import pytest

from kernels import gather
from tests.kernels.gather.cases import Case, inputs

# The annotations are checked in tests, before the arguments are.
unchecked = inspect.unwrap(gather)
GOOD = inputs(Case(masked=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": GOOD["k"][0]}, r"k has shape \(37,2,8\); give a non-empty array \[B,N,H,D\]"),
        ({"v": GOOD["v"][:, :3]}, r"v has shape \(2,3,2,8\) and k has"),
        ({"q": GOOD["q"][..., :3]}, r"q has shape \(2,8,3\), which does not fit k"),
        ({"q": GOOD["q"][0, 0]}, r"q has shape \(8,\); give a non-empty array \[H,M,D\] or"),
        ({"mask": GOOD["mask"][:, :3]}, r"mask has shape \(2,3\) and dtype bool"),
        ({"mask": GOOD["mask"].astype(jnp.float32)}, r"and dtype float32; give a bool array"),
        ({"q": GOOD["q"].astype(jnp.bfloat16)}, r"q has dtype bfloat16 and k has float32"),
        ({"scale": 0.0}, r"scale is 0.0; give a positive finite number"),
        ({"implementation": "cuda"}, r"implementation is 'cuda'; give one of reference, xla, pallas"),
        ({"axis_name": "points"}, r"axis_name is 'points', which is no mesh axis here; call gather in a shard_map"),
    ],
    ids=lambda x: x if isinstance(x, str) else next(iter(x)),
)
def test_one_sentence(change, message):
    with pytest.raises(ValueError, match=message):
        unchecked(**(GOOD | change))

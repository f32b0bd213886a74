"""A launch of a Triton kernel through jax-triton 0.3, which Python 3.11 takes, and 0.4, which names arguments anew."""

import sys
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels._target import Target
from kernels._triton import triton_call

CONSTANTS = {"kernel": "sum", "grid": (7,), "name": "of rows", "num_warps": 8, "num_stages": 3, "rows": 16}


def of_03(*operands: Any, out_shape: Any, enable_fp_fusion: bool = True, **others: Any) -> list[jax.Array]:
    assert enable_fp_fusion
    return outputs(operands, out_shape, others)


def of_04(*operands: Any, out_type: Any = None, backend_options: Any = None, **others: Any) -> list[jax.Array]:
    # What it does not know is for the kernel.
    assert backend_options == {"enable_fp_fusion": True}
    return outputs(operands, out_type, others)


def outputs(operands: Any, shapes: Any, others: dict[str, Any]) -> list[jax.Array]:
    assert others == CONSTANTS | {"compute_capability": 90}
    return [jnp.full(x.shape, *operands, x.dtype) for x in shapes]


@pytest.mark.parametrize("call", [of_03, of_04])
def test_a_launch_is_worded_for_the_version_that_is_installed(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax_triton", SimpleNamespace(triton_call=call))
    launch = triton_call(
        "sum",
        target=Target("cuda", (9, 0)),
        name="of rows",
        grid=(7,),
        out_shape=[jax.ShapeDtypeStruct((3,), jnp.float32)],
        constants={"rows": 16},
        num_warps=8,
        num_stages=3,
    )
    (y,) = launch(1.5)
    np.testing.assert_array_equal(y, np.full(3, 1.5, np.float32))

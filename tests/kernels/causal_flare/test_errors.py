"""Bad arguments are refused while tracing, in one sentence that names argument, value and remedy."""

import inspect

import jax
import jax.numpy as jnp
import pytest

from kernels import causal_flare
from kernels.causal_flare import decode_step, init_state

# The suite checks annotations; users do not, and see the messages of the functions themselves.
mix, step, init = (inspect.unwrap(function) for function in (causal_flare, decode_step, init_state))


def zeros(*shape, dtype=jnp.float32):
    return jnp.zeros(shape, dtype)


Q, K, V = zeros(2, 3, 4), zeros(5, 6, 2, 4), zeros(5, 6, 2, 7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"q": zeros(2, 3)}, r"q has shape \(2,3\), which does not fit k; give a non-empty .* with H=2 and D=4"),
        ({"q": zeros(3, 3, 4)}, r"q has shape \(3,3,4\), which does not fit k"),
        ({"q": zeros(2, 2049, 4)}, r"q has 2049 latents; give at most 2048"),
        ({"k": zeros(6, 2, 4)}, r"k has shape \(6,2,4\); give a non-empty array \[B,N,H,D\]"),
        ({"v": zeros(5, 0, 2, 7)}, r"v has shape \(5,0,2,7\); give a non-empty array"),
        ({"v": zeros(5, 9, 2, 7)}, r"v has shape \(5,9,2,7\) and k has \(5,6,2,4\); give both the same sizes"),
        ({"q_decode": zeros(2, 3, 5)}, r"q_decode has shape \(2,3,5\), which does not fit k_decode"),
        ({"k_decode": zeros(5, 6, 2, 9)}, r"q_decode has shape \(2,3,4\), which does not fit k_decode"),
        ({"k_decode": zeros(5, 7, 2, 4)}, r"k_decode has shape \(5,7,2,4\) and k has \(5,6,2,4\)"),
        ({"q_decode": zeros(2, 8, 4)}, r"q_decode has 8 latents and q has 3"),
        ({"mask": zeros(5, 6)}, r"mask has shape \(5,6\) and dtype float32; give a bool array of shape \(5,6\)"),
        ({"v": zeros(5, 6, 2, 7, dtype=jnp.bfloat16)}, r"v has dtype bfloat16 and k has float32; cast them to one"),
        ({"k": zeros(5, 6, 2, 4, dtype=jnp.int32)}, r"k has dtype int32; cast it to one of float32, bfloat16, float16"),
        ({"initial_state": init(5, 2, 4, 7)}, r"the state's maximum has shape \(5,2,4\) .* shape \(5,2,3\)"),
        ({"initial_state": init(5, 2, 3, 6)}, r"the state's total has shape \(5,2,3,6\) .* shape \(5,2,3,7\)"),
        ({"scale": 0.0}, r"scale is 0.0; give a positive finite number"),
        ({"scale": float("nan")}, r"scale is nan; give a positive finite number"),
        (
            {"axis_name": "points"},
            r"axis_name is 'points', which is no mesh axis here; call causal_flare in a shard_map",
        ),
        ({"axis_name": "points", "block": 2}, r"block is 2 and axis_name 'points'; blocks are not split, leave one"),
        ({"implementation": "triton"}, r"implementation is 'triton'; give one of reference, xla, pallas"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        mix(**({"q": Q, "k": K, "v": V} | arguments))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": K}, r"k has shape \(5,6,2,4\); give a non-empty array \[B,H,D\]"),
        ({"v": V[:4, 0]}, r"v has shape \(4,2,7\) and k has \(5,2,4\); give both the same sizes \[B,H,.\]"),
        ({"mask": zeros(4, dtype=bool)}, r"mask has shape \(4,\) and dtype bool; give a bool array of shape \(5,\)"),
        ({"state": init(5, 2, 4, 7)}, r"the state's maximum has shape \(5,2,4\)"),
        ({"scale": -1.0}, r"scale is -1.0; give a positive finite number"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_bad_arguments_of_a_step(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        step(**({"state": init(5, 2, 3, 7), "q": Q, "k": K[:, 0], "v": V[:, 0]} | arguments))
    assert "\n" not in str(error.value)


def test_sizes_of_a_state():
    with pytest.raises(ValueError, match="heads is 0; give a positive number"):
        init(1, 0, 4, 4)


def test_traced_scale():
    with pytest.raises(ValueError, match="scale is a traced value"):
        jax.jit(lambda s: mix(Q, K, V, scale=s))(1.0)


@pytest.mark.parametrize(
    ("dtype", "width", "message"),
    [
        (jnp.float16, 4, "'pallas' takes float32 or bfloat16, not float16"),
        (jnp.float32, 129, "'pallas' takes head widths up to 128, not 129"),
    ],
)
def test_named_implementations_never_fall_back(dtype, width, message):
    q, k = zeros(2, 3, width, dtype=dtype), zeros(5, 6, 2, width, dtype=dtype)
    with pytest.raises(ValueError, match=message):
        mix(q, k, k, implementation="pallas")

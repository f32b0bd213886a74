"""Bad arguments are refused while tracing, in one sentence that names argument, value and remedy."""

import inspect

import jax
import jax.numpy as jnp
import pytest

from kernels import causal_linear_attention

# The suite checks annotations; users do not, and see the messages of the function itself.
attend = inspect.unwrap(causal_linear_attention)


def zeros(*shape, dtype=jnp.float32):
    return jnp.zeros(shape, dtype)


Q, V = zeros(5, 6, 2, 4), zeros(5, 6, 2, 7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"q": zeros(6, 2, 4)}, r"q has shape \(6,2,4\); give a non-empty array \[B,N,H,D\]"),
        ({"v": zeros(5, 0, 2, 7)}, r"v has shape \(5,0,2,7\); give a non-empty array"),
        ({"k": zeros(5, 6, 2, 3)}, r"k has shape \(5,6,2,3\) and q has \(5,6,2,4\); give both the same shape"),
        ({"v": zeros(5, 9, 2, 7)}, r"v has shape \(5,9,2,7\) and q has \(5,6,2,4\); give both the same sizes"),
        ({"v": zeros(5, 6, 2, 7, dtype=jnp.bfloat16)}, r"v has dtype bfloat16 and q has float32; cast them to one"),
        ({"q": zeros(5, 6, 2, 4, dtype=jnp.int32)}, r"q has dtype int32; cast it to one of float32, bfloat16"),
        ({"mask": zeros(5, 6)}, r"mask has shape \(5,6\) and dtype float32; give a bool array \[B,N\]"),
        (
            {"initial_state": zeros(5, 2, 4, 6)},
            r"initial_state has shape \(5,2,4,6\) .* float32 array of shape \(5,2,4,7\)",
        ),
        (
            {"initial_state": zeros(5, 2, 4, 7), "normalize": True},
            r"initial_state has shape .* float32 array of shape \(5,2,4,8\)",
        ),
        ({"initial_state": zeros(5, 2, 4, 7, dtype=jnp.bfloat16)}, r"initial_state has .* dtype bfloat16; give a"),
        ({"scale": 0.0}, r"scale is 0.0; give a positive finite number"),
        ({"scale": float("inf")}, r"scale is inf; give a positive finite number"),
        ({"implementation": "cudnn"}, r"implementation is 'cudnn'; give one of reference, xla, pallas, triton"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        attend(**({"q": Q, "k": Q, "v": V} | arguments))
    assert "\n" not in str(error.value)


def test_traced_scale():
    with pytest.raises(ValueError, match="scale is a traced value"):
        jax.jit(lambda s: attend(Q, Q, V, scale=s))(1.0)


@pytest.mark.parametrize(
    ("implementation", "dtype", "width", "message"),
    [
        ("pallas", jnp.float16, 4, "'pallas' takes float32 or bfloat16, not float16"),
        ("triton", jnp.float16, 4, "'triton' takes float32 or bfloat16, not float16"),
        ("pallas", jnp.float32, 129, "'pallas' takes head widths up to 128, not 129"),
        pytest.param(
            "triton",
            jnp.float32,
            8,
            "'triton' needs an NVIDIA GPU, and this is a cpu",
            marks=pytest.mark.skipif(jax.default_backend() == "gpu", reason="there is a GPU here"),
        ),
    ],
)
def test_named_implementations_never_fall_back(implementation, dtype, width, message):
    x = zeros(5, 6, 2, width, dtype=dtype)
    with pytest.raises(ValueError, match=message):
        attend(x, x, x, implementation=implementation)

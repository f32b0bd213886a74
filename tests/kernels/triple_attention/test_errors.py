"""Bad arguments are refused while tracing, in one sentence that names argument, value and remedy."""

import inspect

import jax
import jax.numpy as jnp
import pytest

from kernels import triple_attention

# The suite checks annotations; users do not, and see the messages of the function itself.
attend = inspect.unwrap(triple_attention)


def zeros(*shape, dtype=jnp.float32):
    return jnp.zeros(shape, dtype)


Q, V = zeros(5, 6, 2, 4), zeros(5, 6, 2, 7)
ARGUMENTS = {"q1": Q, "q2": Q, "k1": Q, "k2": Q, "v": V}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"q1": zeros(6, 2, 4)}, r"q1 has shape \(6,2,4\); give a non-empty array \[B,N,H,D\]"),
        ({"v": zeros(5, 0, 2, 7)}, r"v has shape \(5,0,2,7\); give a non-empty array"),
        ({"k2": zeros(5, 6, 2, 3)}, r"k2 has shape \(5,6,2,3\) and q1 has \(5,6,2,4\); give q1, q2, k1 and k2 one"),
        ({"v": zeros(5, 9, 2, 7)}, r"v has shape \(5,9,2,7\) and q1 has \(5,6,2,4\); give both the same sizes"),
        ({"v": zeros(5, 6, 2, 7, dtype=jnp.bfloat16)}, r"v has dtype bfloat16 and q1 has float32; cast them to one"),
        ({"q1": zeros(5, 6, 2, 4, dtype=jnp.int32)}, r"q1 has dtype int32; cast it to one of float32, bfloat16"),
        ({"n_total": 0}, r"n_total is 0; give the number of points as a positive Python integer"),
        ({"n_total": 6.0}, r"n_total is 6.0; give the number of points as a positive Python integer"),
        ({"n_total": True}, r"n_total is True; give"),
        ({"implementation": "cuda"}, r"implementation is 'cuda'; give one of reference, xla, pallas, triton"),
        ({"axis_name": "points"}, r"axis_name is 'points', which is no mesh axis here; call triple_attention in a sh"),
        ({"axis_name": "points", "implementation": "reference"}, r"axis_name .* 'reference' cannot merge; use 'xla'"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        attend(**(ARGUMENTS | arguments))
    assert "\n" not in str(error.value)


def test_traced_n_total():
    with pytest.raises(ValueError, match=r"n_total is .*; give the number of points as a positive Python integer"):
        jax.jit(lambda n: attend(**ARGUMENTS, n_total=n))(6)


@pytest.mark.parametrize("implementation", ["pallas", "triton"])
@pytest.mark.parametrize(
    ("dtype", "width", "message"),
    [
        (jnp.float16, 4, "takes float32 or bfloat16, not float16; use implementation 'xla'"),
        (jnp.float32, 129, "takes head widths up to 128, not 129; use implementation 'xla'"),
    ],
)
def test_named_implementations_never_fall_back(implementation, dtype, width, message):
    x = zeros(5, 6, 2, width, dtype=dtype)
    with pytest.raises(ValueError, match=f"implementation '{implementation}' {message}"):
        attend(x, x, x, x, x, implementation=implementation)


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="there is a GPU here")
def test_triton_without_a_gpu():
    with pytest.raises(ValueError, match="'triton' needs an NVIDIA GPU, and this is a cpu; use implementation 'xla'"):
        attend(**ARGUMENTS, implementation="triton")

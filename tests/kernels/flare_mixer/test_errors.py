"""Bad arguments are refused while tracing, in one sentence that names argument, value and remedy."""

import inspect

import jax
import jax.numpy as jnp
import pytest

from kernels import flare_mixer
from kernels.flare_mixer.cudnn import MASKED_LOGIT

# The suite checks annotations; users do not, and see the messages of the function itself.
mix = inspect.unwrap(flare_mixer)


def zeros(*shape, dtype=jnp.float32):
    return jnp.zeros(shape, dtype)


Q, K, V = zeros(2, 3, 4), zeros(5, 6, 2, 4), zeros(5, 6, 2, 7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"q": zeros(2, 3)}, r"q has shape \(2,3\); give a non-empty array \[H,M,D\]"),
        ({"q": zeros(2, 0, 4)}, r"q has shape \(2,0,4\); give a non-empty array"),
        ({"q": zeros(3, 3, 4)}, r"q has shape \(3,3,4\), which does not fit k .* with B=5, H=2, D=4"),
        ({"q": zeros(4, 2, 3, 4)}, r"q has shape \(4,2,3,4\), which does not fit k"),
        ({"k": zeros(6, 2, 4)}, r"k has shape \(6,2,4\); give a non-empty array \[B,N,H,D\]"),
        ({"v": zeros(5, 0, 2, 7)}, r"v has shape \(5,0,2,7\); give a non-empty array"),
        ({"v": zeros(5, 9, 2, 7)}, r"v has shape \(5,9,2,7\) and k has \(5,6,2,4\); give both the same"),
        ({"q_decode": zeros(2, 3, 5)}, r"q_decode has shape \(2,3,5\), which does not fit k_decode"),
        ({"k_decode": zeros(5, 6, 2, 9)}, r"q_decode has shape \(2,3,4\), which does not fit k_decode"),
        ({"k_decode": zeros(5, 7, 2, 4)}, r"k_decode has shape \(5,7,2,4\) and k has \(5,6,2,4\)"),
        ({"q_decode": zeros(2, 8, 4)}, r"q_decode has 8 latents and q has 3"),
        (
            {"mask": zeros(5, 6)},
            r"mask has shape \(5,6\) and dtype float32; give a bool array \[B,N\] of shape \(5, 6\)",
        ),
        ({"mask": zeros(6, dtype=bool)}, r"mask has shape \(6\,\) and dtype bool"),
        ({"v": zeros(5, 6, 2, 7, dtype=jnp.bfloat16)}, r"v has dtype bfloat16 and k has float32; cast them to one"),
        ({"k": zeros(5, 6, 2, 4, dtype=jnp.int32)}, r"k has dtype int32; cast it to one of float32, bfloat16, float16"),
        ({"scale": 0.0}, r"scale is 0.0; give a positive finite number"),
        ({"scale": float("nan")}, r"scale is nan; give a positive finite number"),
        ({"scale": None}, r"scale is None; give a positive finite number"),
        ({"scale": "sqrt"}, r"scale is 'sqrt'; give a positive finite number"),
        ({"implementation": "cuda"}, r"implementation is 'cuda'; give one of reference, xla, cudnn, pallas"),
        (
            {"axis_name": "points"},
            r"axis_name is 'points', which is no mesh axis here; call flare_mixer in a shard_map",
        ),
        ({"axis_name": "points", "implementation": "reference"}, r"axis_name .* 'reference' cannot merge; use 'xla'"),
        ({"implementation": "cudnn"}, r"implementation 'cudnn' takes float16 or bfloat16, not float32"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        mix(**({"q": Q, "k": K, "v": V} | arguments))
    assert "\n" not in str(error.value)


def test_traced_scale():
    with pytest.raises(ValueError, match="scale is a traced value"):
        jax.jit(lambda s: mix(Q, K, V, scale=s))(1.0)


@pytest.mark.parametrize(
    ("implementation", "dtype", "width", "message"),
    [
        ("pallas", jnp.float16, 4, "'pallas' takes float32 or bfloat16, not float16"),
        ("pallas", jnp.float32, 129, "'pallas' takes head widths up to 128, not 129"),
        ("cudnn", jnp.bfloat16, 136, "'cudnn' takes head widths up to 128, with a mask 127, not 136"),
        pytest.param(
            "cudnn",
            jnp.bfloat16,
            8,
            "'cudnn' needs an NVIDIA GPU, and this is a cpu",
            marks=pytest.mark.skipif(jax.default_backend() == "gpu", reason="there is a GPU here"),
        ),
    ],
)
def test_named_implementations_never_fall_back(implementation, dtype, width, message):
    q, k = zeros(2, 3, width, dtype=dtype), zeros(5, 6, 2, width, dtype=dtype)
    with pytest.raises(ValueError, match=message):
        mix(q, k, k, implementation=implementation)


def test_cudnn_mask_is_beyond_any_logit_of_bfloat16_models():
    assert jnp.exp(jnp.float32(1000 - MASKED_LOGIT)) == 0

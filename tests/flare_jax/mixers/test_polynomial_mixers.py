"""Mixers with polynomial states and of third order against a plain numpy version, for every option."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flare_jax.mixers import chunks, quad_attention, third_order_attention
from flare_jax.mixers.multilinear_attention import MultilinearAttention, MultilinearConfig
from flare_jax.mixers.quad_attention import QuadAttention
from flare_jax.mixers.state_attention import StateBlockConfig
from flare_jax.mixers.strassen_attention import StrassenAttention
from flare_jax.mixers.third_order_attention import ThirdOrderAttention, ThirdOrderConfig
from flare_jax.mixers.triple_attention import TripleAttention, TripleConfig
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import apply_fn
from tests.flare_jax.mixers import naive_polynomial
from tests.flare_jax.mixers.naive_polynomial import in_float64
from tests.flare_jax.models.sequence.cases import perturbed
from tests.numerics import assert_close, rms_ratio

C, H = 12, 2
MASK = jnp.arange(7) < jnp.array([[7], [4]])


def tokens():
    return jax.random.normal(jax.random.key(2), (2, 7, C), jnp.float32)


MIXERS = {
    "multilinear": (MultilinearAttention, MultilinearConfig, naive_polynomial.multilinear),
    "three states": (
        MultilinearAttention,
        partial(MultilinearConfig, num_states=3),
        lambda naive: naive_polynomial.multilinear(naive, 3),
    ),
    "strassen": (StrassenAttention, StateBlockConfig, naive_polynomial.strassen),
    "triple": (TripleAttention, TripleConfig, lambda naive: naive_polynomial.products(naive, 2)),
    "quad": (QuadAttention, StateBlockConfig, lambda naive: naive_polynomial.products(naive, 3)),
}
OPTIONS = {
    "defaults": {},
    "learnable": {"kernel": "hadamard", "qk_dim_ratio": 0.5, "num_layers_kv_proj": 0, "norm_q": True},
    "norms": {"kernel": "elu", "norm_k": True, "num_layers_kv_proj": 1, "act": "silu", "rmsnorm": True},
}


def compare_state_mixer(name, options, mask):
    mixer, configure, naive = MIXERS[name]
    graphdef, params = perturbed(lambda: mixer(C, configure(num_heads=H, **options), rngs=ParameterKeys(0)))
    float64_params, x = in_float64(params, tokens())
    inputs = {"kernel": "identity", "norm_q": False, "norm_k": False, "act": None} | {
        key: value for key, value in options.items() if key in ("kernel", "norm_q", "norm_k", "act")
    }
    expected = naive(naive_polynomial.Naive(float64_params, x, mask, num_heads=H, **inputs))
    actual = jax.jit(apply_fn(graphdef))(params, tokens(), mask)
    assert_close(name, actual, expected, 2e-5)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("name", MIXERS)
def test_state_mixers(name, options):
    compare_state_mixer(name, options, MASK if options else None)


@pytest.mark.parametrize("kernel", ["swiglu", "hedgehog"])
def test_features_wider_or_narrower_than_heads(kernel):
    compare_state_mixer("triple", {"kernel": kernel, "qk_dim_ratio": 0.4, "norm_q": True, "norm_k": True}, None)


def test_triple_implementations_agree():
    def run(implementation):
        graphdef, params = perturbed(
            lambda: TripleAttention(C, TripleConfig(num_heads=H, implementation=implementation), rngs=ParameterKeys(0))
        )
        return jax.jit(apply_fn(graphdef))(params, tokens())

    assert_close("xla", run("xla"), run("reference"), 1e-5)
    with pytest.raises(ValueError, match="implementation is 'fast'"):
        run("fast")


@pytest.mark.parametrize("count", [3, 7, 50])
def test_quad_in_chunks_is_quad_at_once(count, monkeypatch):
    graphdef, params = perturbed(lambda: QuadAttention(C, StateBlockConfig(num_heads=H), rngs=ParameterKeys(0)))

    def value_and_gradients(params, x):
        return jax.value_and_grad(lambda p, x: jnp.sum(jnp.sin(apply_fn(graphdef)(p, x))), argnums=(0, 1))(params, x)

    expected = jax.jit(value_and_gradients)(params, tokens())
    monkeypatch.setattr(quad_attention, "CHUNK_ELEMENTS", 2 * 7 * H * 36 // count)
    actual = jax.jit(lambda *inputs: value_and_gradients(*inputs))(params, tokens())
    for got, wanted in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert_close("chunked", got, wanted, 1e-4)


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_chunks(count):
    x = jnp.arange(14.0).reshape(1, 7, 2)
    total = chunks.sum_over_chunks(lambda part: part.sum(1), (x,), count)
    assert_close("sum", total, x.sum(1), 1e-7)
    mapped = chunks.map_over_chunks(lambda part, other: (part * other)[..., None], (x, x), count)
    assert_close("map", mapped, (x * x)[..., None], 0.0)


def third_order(x, mask=None, **options):
    graphdef, params = perturbed(
        lambda: ThirdOrderAttention(C, ThirdOrderConfig(num_heads=H, **options), rngs=ParameterKeys(0))
    )
    return jax.jit(apply_fn(graphdef))(params, x, mask), in_float64(params, x)


@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "mask"])
@pytest.mark.parametrize("method", third_order_attention.METHODS)
def test_third_order(method, mask, monkeypatch):
    actual, (params, x) = third_order(tokens(), mask, third_order_method=method)
    expected = naive_polynomial.third_order(params, x, mask, num_heads=H, method=method, epsilon=0.0)
    assert_close(method, actual, expected, 1e-5)
    monkeypatch.setattr(third_order_attention, "CHUNK_ELEMENTS", 2 * H * 7**3 // 3)
    assert_close("in chunks", third_order(tokens(), mask, third_order_method=method)[0], actual, 1e-6)


def test_epsilon_of_the_original():
    """With large logits the original's 1e-6 outweighs the rest of the denominator; only the option reproduces that."""
    exact, (params, x) = third_order(6 * tokens(), third_order_method="strassen")
    original, _ = third_order(6 * tokens(), third_order_method="strassen", reference_epsilon=True)
    kinds = {"method": "strassen", "num_heads": H}
    with_epsilon = naive_polynomial.third_order(params, x, None, epsilon=1e-6, **kinds)
    assert_close("with epsilon", original, with_epsilon, 1e-4)
    assert_close("without", exact, naive_polynomial.third_order(params, x, None, epsilon=0.0, **kinds), 1e-4)
    assert rms_ratio(original, exact) > 1e-2


def test_gradient_of_the_epsilon_of_the_original():
    """The epsilon is relative to the largest logits, which depend on the tokens."""
    options = {"third_order_method": "strassen", "reference_epsilon": True}
    graphdef, params = perturbed(
        lambda: ThirdOrderAttention(C, ThirdOrderConfig(num_heads=H, **options), rngs=ParameterKeys(0))
    )
    x, direction = 6 * tokens(), jnp.cos(tokens())
    slope = jax.jit(lambda x: jax.jvp(lambda x: apply_fn(graphdef)(params, x), (x,), (direction,))[1])(x)
    float64_params, middle = in_float64(params, x)
    step = 1e-6 * np.asarray(direction, np.float64)
    after, before = (
        naive_polynomial.third_order(float64_params, point, None, num_heads=H, method="strassen", epsilon=1e-6)
        for point in (middle + step, middle - step)
    )
    assert_close("slope", slope, (after - before) / 2e-6, 1e-4)


@pytest.mark.parametrize(("method", "epsilon"), [("third_order", False), ("strassen", False), ("strassen", True)])
def test_large_logits_are_finite(method, epsilon):
    options = {"third_order_method": method, "reference_epsilon": epsilon}
    graphdef, params = perturbed(
        lambda: ThirdOrderAttention(C, ThirdOrderConfig(num_heads=H, **options), rngs=ParameterKeys(0))
    )
    gradients = jax.jit(jax.grad(lambda p, x: jnp.sum(jnp.sin(apply_fn(graphdef)(p, x))), argnums=(0, 1)))
    for leaf in jax.tree.leaves(gradients(params, 300 * tokens())):
        assert np.isfinite(np.asarray(leaf)).all()


def test_ignored_mask_mixes_padded_tokens():
    ignored, _ = third_order(tokens(), MASK, ignore_mask=True)
    assert_close("ignored", ignored, third_order(tokens())[0], 0.0)


@pytest.mark.parametrize("method", third_order_attention.METHODS)
def test_a_sample_without_tokens_receives_the_output_bias(method):
    mask = jnp.array([[False] * 7, [True] * 7])
    graphdef, params = perturbed(
        lambda: ThirdOrderAttention(
            C,
            ThirdOrderConfig(num_heads=H, third_order_method=method, reference_epsilon=method == "strassen"),
            rngs=ParameterKeys(0),
        )
    )

    def loss(params, x):
        y = apply_fn(graphdef)(params, x, mask)
        return jnp.sum(y**2), y

    (gradients, dx), y = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(params, tokens())
    assert_close("bias", y[0], jnp.broadcast_to(params["out_proj.bias"], (7, C)), 1e-7)
    assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves((gradients, dx)))

"""The damped moving average in all its forms, and the gated attention on it, against plain numpy versions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flare_jax.mixers.damped_ema import DampedEMA
from flare_jax.mixers.ema_attention import EmaAttention, EmaConfig
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import apply_fn, split
from tests.flare_jax.mixers import naive_polynomial
from tests.flare_jax.mixers.naive_polynomial import in_float64
from tests.flare_jax.models.sequence.cases import perturbed
from tests.numerics import assert_close, rms_ratio

C = 6


def tokens(n):
    return jax.random.normal(jax.random.key(2), (2, n, C), jnp.float32)


def average(params, x, mask=None, **options):
    graphdef, _ = split(nnx.eval_shape(lambda: DampedEMA(C, **options, rngs=ParameterKeys(0))))
    return jax.jit(apply_fn(graphdef))(params, x, mask)


def ema_params(logits=1.0):
    """Return parameters whose logits have the given multiple of their usual spread."""
    _, params = perturbed(lambda: DampedEMA(C, rngs=ParameterKeys(0)))
    return params | {name: logits * params[name] for name in params if name.endswith("logits")}


@pytest.mark.parametrize("length", [1, 7, 64, 150])
def test_exact_forms_are_the_filter_token_by_token(length):
    params, x = ema_params(3.0), tokens(length)
    expected = naive_polynomial.damped_ema(*in_float64(params, x))
    for form in ("scan", "conv"):
        assert_close(form, average(params, x, ema_impl=form), expected, 1e-5)


def test_extreme_decays():
    """Saturated sigmoids make decays of 1 and of 0, which must give NaN in neither values nor gradients."""
    params, x = ema_params(100.0), tokens(100)
    assert_close("saturated", average(params, x), naive_polynomial.damped_ema(*in_float64(params, x)), 1e-5)
    graphdef, _ = perturbed(lambda: DampedEMA(C, rngs=ParameterKeys(0)))
    gradients = jax.jit(jax.grad(lambda p: jnp.sum(apply_fn(graphdef)(p, x))))(params)
    assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(gradients))


def test_cumulative_sum_is_exact_until_its_exponents_are_clamped():
    """The decays are near 0.75, so that 60/|ln 0.75| = 208 tokens pass before the clamp acts."""
    params, x = ema_params(0.1), tokens(300)
    short = average(params, x[:, :150], ema_impl="reference_cumsum")
    assert_close("short", short, average(params, x[:, :150]), 1e-5)
    assert rms_ratio(average(params, x, ema_impl="reference_cumsum"), average(params, x)) > 0.1
    assert rms_ratio(average(params, x[:, :150], ema_impl="reference_cumsum", exponent_limit=5.0), short) > 0.1


@pytest.mark.parametrize("window", [4, 2048])
def test_convolutions(window):
    """'conv' gives the newest token of its window the weight of lag zero, 'reference_conv' the oldest."""
    params, x = ema_params(), tokens(9)
    float64_params, x64 = in_float64(params, x)
    alpha, delta, beta = (naive_polynomial.sigmoid(float64_params[f"{n}_logits"]) for n in ("alpha", "delta", "beta"))
    size = min(window, 9)
    powers = (1 - alpha * delta) ** np.arange(size)[:, None, None]
    weights = (float64_params["eta"] * alpha * beta * powers).sum(-1)
    for form, kernel in (("conv", weights), ("reference_conv", weights[::-1])):

        def run(sequence, kernel=kernel):
            rows = [sum(kernel[i] * sequence[:, t - i] for i in range(min(size, t + 1))) for t in range(9)]
            return np.stack(rows, axis=1)

        both = np.concatenate([run(x64), run(x64[:, ::-1])[:, ::-1]], axis=-1)
        expected = naive_polynomial.linear(float64_params, "proj", both)
        assert_close(form, average(params, x, ema_impl=form, kernel_size=window), expected, 1e-5)


def test_masked_tokens_at_the_end_are_no_tokens():
    params, x = ema_params(), tokens(80)
    mask = jnp.broadcast_to(jnp.arange(80) < 70, (2, 80))
    padded = average(params, jnp.where(mask[..., None], x, jnp.nan), mask)
    assert_close("padded", padded[:, :70], average(params, x[:, :70]), 1e-5)


@pytest.mark.parametrize("masked_ema", [False, True])
def test_attention(masked_ema):
    graphdef, params = perturbed(lambda: EmaAttention(C, EmaConfig(masked_ema=masked_ema), rngs=ParameterKeys(0)))
    x, mask = tokens(9), jnp.arange(9) < jnp.array([[9], [6]])
    apply = jax.jit(apply_fn(graphdef))
    float64_params, x64 = in_float64(params, x)
    expected = naive_polynomial.ema_attention(float64_params, x64, mask, masked_ema=masked_ema)
    assert_close("mask", apply(params, x, mask), expected, 1e-5)
    assert_close("no mask", apply(params, x), naive_polynomial.ema_attention(float64_params, x64), 1e-5)


def test_attention_dropout_needs_a_key():
    graphdef, params = perturbed(lambda: EmaAttention(C, EmaConfig(attn_drop=0.5), rngs=ParameterKeys(0)))
    apply, x = jax.jit(apply_fn(graphdef)), tokens(9)
    plain = apply(params, x)
    assert_close("evaluation", plain, naive_polynomial.ema_attention(*in_float64(params, x)), 1e-5)
    first, again = (apply(params, x, None, jax.random.key(1)) for _ in range(2))
    assert_close("same key", first, again, 0.0)
    assert rms_ratio(first, plain) > 1e-2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ema_impl": "cumsum"}, "ema_impl is 'cumsum' but must be one of 'scan', 'conv', 'reference_cumsum'"),
        ({"num_components": 0}, "num_components is 0"),
        ({"kernel_size": 0}, "kernel_size is 0"),
        ({"exponent_limit": -1.0}, "exponent_limit is -1.0 but must be a positive number"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        DampedEMA(C, **options, rngs=ParameterKeys(0))

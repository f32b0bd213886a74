"""The state-space mixers against numpy from their formulas, and what their structure implies."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flare_jax.convert import to_torch
from flare_jax.mixers.state_space import (
    BidirectionalMamba2,
    Hydra,
    ScanInputs,
    StateSpaceSizes,
    initial_log_rate,
    initial_step_bias,
    scan_both_ways,
)
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import apply_fn, split
from tests.flare_jax.mixers import naive_state_space
from tests.flare_jax.mixers.naive_state_space import numpy_scan
from tests.flare_jax.mixers.test_selective_scan import random_inputs
from tests.numerics import assert_close, rms_ratio

NAIVE = {Hydra: naive_state_space.hydra, BidirectionalMamba2: naive_state_space.bidirectional_mamba2}
SIZES = {"channel_dim": 12, "state_dim": 4, "conv_width": 3, "expand": 1, "head_dim": 3, "num_groups": 2}
both = pytest.mark.parametrize("mixer", [Hydra, BidirectionalMamba2])


@functools.cache
def initial(mixer, dtype, changes):
    """Return the mixer as a function, its initial parameters, and its sizes."""
    sizes = StateSpaceSizes(**(SIZES | dict(changes)))
    graphdef, params = split(mixer(sizes, dtype=dtype, rngs=ParameterKeys(0)))
    return apply_fn(graphdef), jax.device_get(params), sizes


def perturbed(mixer, dtype="float32", **changes):
    """Return the mixer as a function, parameters that are random around their initial values, and its sizes."""
    apply, params, sizes = initial(mixer, dtype, tuple(changes.items()))
    generator = np.random.default_rng(1)
    drawn = {name: value + 0.3 * generator.standard_normal(value.shape) for name, value in params.items()}
    return apply, {name: jnp.asarray(np.float32(value)) for name, value in drawn.items()}, sizes


def sequence(n=11, channel_dim=12):
    return jax.random.normal(jax.random.key(0), (2, n, channel_dim))


@both
@pytest.mark.parametrize(
    ("changes", "length"),
    [
        ({}, 11),
        ({}, 1),
        ({"expand": 2, "num_groups": 4, "conv_width": 5}, 70),
        ({"head_dim": 12, "num_groups": 1, "state_dim": 1, "conv_width": 1}, 4),
    ],
    ids=["two groups", "one entry", "wide and longer than a chunk", "one head"],
)
def test_formulas(mixer, changes, length):
    apply, params, sizes = perturbed(mixer, **changes)
    state = to_torch("lamo", {f"blocks.0.att.token_mixer.{name}": value for name, value in params.items()})
    expected = NAIVE[mixer](
        state,
        "blocks.0.Attn.hydra",
        np.asarray(sequence(length), np.float64),
        state_dim=sizes.state_dim,
        num_groups=sizes.num_groups,
        head_dim=sizes.head_dim,
    )
    assert_close("y", jax.jit(apply)(params, sequence(length)), expected, 2e-5)


@both
def test_gradients_of_all_parameters_are_present(mixer):
    apply, params, _ = perturbed(mixer)
    grads = jax.jit(jax.grad(lambda params: jnp.sum(jnp.sin(apply(params, sequence())))))(params)
    for name, grad in grads.items():
        assert np.isfinite(np.asarray(grad)).all(), name
        assert np.asarray(grad).any(), name


@both
def test_every_entry_reaches_every_other(mixer):
    apply, params, _ = perturbed(mixer)
    jacobian = jax.jit(jax.jacobian(lambda x: apply(params, x)[0].sum(-1)))(sequence()[:1])[:, 0].sum(-1)
    assert (np.abs(np.asarray(jacobian)) > 0).all()


def test_mamba2_with_equal_directions_commutes_with_reversal():
    apply, params, _ = perturbed(BidirectionalMamba2)
    apply = jax.jit(apply)
    params |= {name: params[name.replace("backward", "forward")] for name in params if name.startswith("backward")}
    assert_close("reversed", apply(params, sequence()[:, ::-1])[:, ::-1], apply(params, sequence()), 1e-5)
    # The mean is of two different directions, of which neither alone commutes.
    params["backward.A_log"] = params["backward.A_log"] + 1
    assert rms_ratio(apply(params, sequence()[:, ::-1])[:, ::-1], apply(params, sequence())) > 1e-3


@both
def test_bfloat16(mixer):
    apply, params, _ = perturbed(mixer)
    half, _, _ = perturbed(mixer, dtype="bfloat16")
    y = jax.jit(half)(params, sequence())
    assert y.dtype == jnp.bfloat16
    assert 1e-4 < rms_ratio(y, jax.jit(apply)(params, sequence())) < 3e-2


@pytest.mark.parametrize("with_state", [False, True])
def test_scan_both_ways(with_state):
    *forward, state = random_inputs()
    backward = [np.asarray(array) * np.float32(0.7) for array in forward]
    state = state if with_state else None
    y, y_backward = jax.jit(scan_both_ways)(ScanInputs(*forward), ScanInputs(*backward), state)
    assert_close("forward", y, numpy_scan(*forward, state), 1e-6)
    x, step, rate, b, c = backward
    expected = numpy_scan(x[:, ::-1], step[:, ::-1], rate, b[:, ::-1], c[:, ::-1], state)[:, ::-1]
    assert_close("backward", y_backward, expected, 1e-6)


def test_initial_parameters():
    step = np.asarray(jax.nn.softplus(initial_step_bias(jax.random.key(0), 4000)))
    assert 1e-3 * 0.999 < step.min() < 1.1e-3
    assert 0.09 < step.max() < 0.1001
    assert abs(np.log(step).mean() - np.log(1e-2)) < 5 * np.log(100) / np.sqrt(12 * 4000)
    rate = np.exp(np.asarray(initial_log_rate(jax.random.key(0), 4000)))
    assert 1 <= rate.min() < 1.05
    assert 15.9 < rate.max() <= 16.0001
    assert abs(rate.mean() - 8.5) < 5 * 15 / np.sqrt(12 * 4000)
    hydra = initial(Hydra, "float32", ())[1]
    assert not any(hydra[name].any() for name in ("A_log", "init_states"))
    assert all((hydra[name] == 1).all() for name in ("skip", "norm.scale"))
    mamba = initial(BidirectionalMamba2, "float32", ())[1]
    for name in ("dt_bias", "A_log", "skip"):
        assert (mamba[f"forward.{name}"] == mamba[f"backward.{name}"]).all()
    assert (mamba["forward.convolution.kernel"] != mamba["backward.convolution.kernel"]).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head_dim": 5}, r"state_space_head_dim 5 does not divide the inner width 12 = expand 1 · 12; choose"),
        ({"num_groups": 3}, r"num_groups 3 does not divide the 4 state-space heads"),
        ({"head_dim": 24}, "state_space_head_dim 24 does not divide"),
        ({"state_dim": 0}, "state_dim is 0 but must be an integer of at least 1"),
        ({"expand": 0}, "expand is 0"),
    ],
)
def test_bad_sizes(changes, message):
    with pytest.raises(ValueError, match=message):
        StateSpaceSizes(**(SIZES | changes))


def test_hydra_needs_an_odd_filter():
    with pytest.raises(ValueError, match="conv_width is 4 but a centred convolution needs an odd one; use 5"):
        Hydra(StateSpaceSizes(**(SIZES | {"conv_width": 4})), rngs=ParameterKeys(0))

"""What every model must satisfy: jit, gradients, batches, padding, permutation, bfloat16, unchanged by its scores."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flare_jax.checks import check_points
from flare_jax.params import apply_fn, split
from tests.flare_jax.models.cases import CASES, build, build_perturbed, points
from tests.flare_jax.quick import quick_jit
from tests.numerics import assert_close, rms_ratio

every_case = pytest.mark.parametrize("case", CASES)
# flare_experimental has the gradients of flare.
gradient_case = pytest.mark.parametrize("case", [case for case in CASES if case != "flare_experimental"])


@functools.cache
def jitted(case, dtype="float32"):
    """Return the jitted model of a case, of one block, and its perturbed parameters."""
    graphdef, params = build_perturbed(case, dtype=dtype, num_blocks=1)
    return quick_jit(apply_fn(graphdef), static_argnames="return_scores"), params


@functools.cache
def gradients(case):
    """Return the jitted function to (gradients for parameters and points, prediction) of a loss over real points."""
    apply = apply_fn(build_perturbed(case, num_blocks=1)[0])

    def loss(params, x, mask):
        y = apply(params, x, mask)
        return jnp.sum(jnp.sin(y) if mask is None else jnp.where(mask[..., None], jnp.sin(y), 0)), y

    return quick_jit(jax.grad(loss, argnums=(0, 1), has_aux=True))


@pytest.mark.parametrize("case", ["flare", "flare_ablations"])
def test_jit_is_eager(case):
    graphdef, _ = build_perturbed(case, num_blocks=1)
    apply, params = jitted(case)
    assert_close("jit", apply(params, points()), apply_fn(graphdef)(params, points()), 1e-6)


@gradient_case
def test_gradients_are_finite_and_present(case):
    _, params = jitted(case)
    (grads, dx), _ = gradients(case)(params, points(n=7), None)
    assert np.isfinite(np.asarray(dx)).all()
    assert np.asarray(dx).any()
    for name, grad in grads.items():
        assert np.isfinite(np.asarray(grad)).all(), name
        assert np.asarray(grad).any(), name


@every_case
def test_batch_of_one_is_a_row_of_the_batch(case):
    apply, params = jitted(case)
    assert_close("row", apply(params, points()[1:2]), apply(params, points())[1:2], 1e-5)


@every_case
def test_permuted_points_give_permuted_outputs(case):
    apply, params = jitted(case)
    order = jax.random.permutation(jax.random.key(3), 11)
    assert_close("permuted", apply(params, points()[:, order]), apply(params, points())[:, order], 1e-5)


@gradient_case
def test_padding_with_a_mask_is_no_padding_even_if_it_holds_nan(case):
    _, params = jitted(case)
    real = np.stack([[0, 1, 2, 3, 4, 5, 6], [1, 2, 4, 5, 7, 9, 10]])
    mask = np.zeros((2, 11), bool)
    np.put_along_axis(mask, real, True, axis=1)
    padded = jnp.where(mask[..., None], points(), jnp.nan)
    (grads, dx), y = gradients(case)(params, padded, jnp.asarray(mask))
    alone = jnp.take_along_axis(points(), real[..., None], axis=1)
    (expected_grads, expected_dx), expected_y = gradients(case)(params, alone, None)
    assert np.isfinite(np.asarray(y)).all()
    assert_close("prediction", y[mask], expected_y.reshape(14, -1), 1e-5)
    assert_close("gradient of points", dx[mask], expected_dx.reshape(14, -1), 1e-4)
    assert not np.asarray(dx)[~mask].any()
    largest = max(float(jnp.abs(grad).max()) for grad in grads.values())
    for name, grad in grads.items():
        # The absolute bound is for gradients that vanish mathematically, such as those of key biases.
        assert_close(name, grad, expected_grads[name], 1e-4, absolute=1e-5 * largest)


@every_case
def test_bfloat16_is_close_and_returns_float32(case):
    apply, params = jitted(case)
    half, _ = jitted(case, "bfloat16")
    y = half(params, points())
    assert y.dtype == jnp.float32
    ratio = rms_ratio(y, apply(params, points()))
    assert 1e-4 < ratio < 3e-2, "a ratio near zero would mean that bfloat16 is not used"


@pytest.mark.parametrize("case", ["flare", "flare_ablations"])
def test_scores_do_not_change_the_prediction(case):
    apply, params = jitted(case)
    y, scores = apply(params, points(), return_scores=True)
    assert_close("prediction", y, apply(params, points()), 1e-6)
    assert [s.shape for s in scores] == [(2, CASES[case][1]["num_heads"], 5, 11)]


def test_the_scale_reaches_prediction_and_scores():
    graphdef, params = build_perturbed("flare", attn_scale=1.0, num_blocks=1)
    apply, _ = jitted("flare")
    y, scores = apply(params, points(), return_scores=True)
    other, unscaled = apply_fn(graphdef)(params, points(), return_scores=True)
    assert_close("scores", scores[0], 0.37 * unscaled[0], 1e-6)
    assert rms_ratio(y, other) > 1e-3


@every_case
def test_parameters_are_float32_in_any_compute_dtype(case):
    _, params = split(nnx.eval_shape(lambda: build(case, dtype="bfloat16")))
    assert {value.dtype for value in params.values()} == {jnp.dtype("float32")}


def test_scores_of_latent_blocks_are_an_error():
    graphdef, params = build_perturbed("flare_ablations_latent_blocks")
    with pytest.raises(ValueError, match="num_latent_blocks is 2; analyse a model with num_latent_blocks=0"):
        jax.eval_shape(functools.partial(apply_fn(graphdef), return_scores=True), params, points())


@pytest.mark.parametrize(
    ("x", "mask", "message"),
    [
        (jnp.ones((2, 5, 4)), None, r"x has shape \(2, 5, 4\) but must be \[B, N, 3\]"),
        (jnp.ones((2, 5, 3)), jnp.ones((2, 5)), "mask has dtype float32 but must be bool"),
        (jnp.ones((2, 5, 3)), jnp.ones((2, 4), bool), r"mask has shape \(2, 4\) but x has \(2, 5, 3\)"),
        (jnp.ones((5, 3)), None, r"x has shape \(5, 3\)"),
        (jnp.ones((2, 5, 3), int), None, "x has dtype int32 but must be floating point"),
    ],
)
def test_bad_inputs(x, mask, message):
    with pytest.raises(ValueError, match=message):
        check_points(x, mask, 3)

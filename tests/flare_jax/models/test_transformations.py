"""What every model must satisfy: jit, gradients, batches, padding, permutation, bfloat16, unchanged by its scores."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flare_jax.checks import check_points
from flare_jax.params import apply_fn
from tests.flare_jax.models.cases import CASES as ALL_CASES
from tests.flare_jax.models.cases import (
    build_perturbed,
    inputs,
    place_points,
    points,
    poison_points,
    take_points,
)
from tests.numerics import assert_close, rms_ratio

pytestmark = pytest.mark.slow

NUM_REAL = 7
CASES = {name: case for name, case in ALL_CASES.items() if not case.graph}

every_case = pytest.mark.parametrize("case", CASES)
gradient_case = pytest.mark.parametrize("case", [case for case in CASES if CASES[case].twin is None])
masked_case = pytest.mark.parametrize(
    "case",
    [case for case in CASES if CASES[case].padding in ("anywhere", "trailing") and CASES[case].twin is None],
)
in_place_case = pytest.mark.parametrize("case", [case for case in CASES if CASES[case].padding == "in place"])
refusing_case = pytest.mark.parametrize("case", [case for case in CASES if CASES[case].padding == "refused"])
permuting_case = pytest.mark.parametrize("case", [case for case in CASES if CASES[case].permutes])


@functools.cache
def jitted(case, dtype="float32"):
    """Return the jitted model of a case, of one block, and its perturbed parameters."""
    graphdef, params = build_perturbed(case, dtype=dtype, **CASES[case].small)
    return jax.jit(apply_fn(graphdef), static_argnames="return_scores"), params


@functools.cache
def gradients(case):
    """Return the jitted function to (gradients for parameters and inputs, prediction) of a loss over real points."""
    apply = apply_fn(build_perturbed(case, **CASES[case].small)[0])

    def loss(params, arguments, mask):
        y = apply(params, **arguments) if mask is None else apply(params, mask=mask, **arguments)
        return jnp.sum(jnp.sin(y) if mask is None else jnp.where(mask[..., None], jnp.sin(y), 0)), y

    return jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))


def real_inputs(case):
    """Return inputs without masked points: of as many points as `padded_mask` marks, where the model takes any."""
    return inputs(case, n=CASES[case].num_points if CASES[case].padding in ("in place", "refused") else NUM_REAL)


def predict(case, arguments):
    """Return the prediction [2, N, C] for arguments of the shapes of `real_inputs`, without a mask."""
    apply, params = jitted(case)
    return np.asarray(apply(params, **arguments))


@functools.cache
def padded_gradients(case):
    """Return (gradients for parameters and inputs, prediction) at the points of `padded_mask`, with NaN beside them.

    The largest of the programs of a model, so that there is one for what is seen in them. That gradients without a mask
    are those of the definition the golden files show.
    """
    _, params = jitted(case)
    _, mask = padded_mask(case)
    return gradients(case)(params, poison_points(case, inputs(case), mask), jnp.asarray(mask))


def slopes_along(case, grads, arguments):
    """Return how fast the loss of points without a mask grows along the gradient of each parameter, over its length.

    That is 1 where the gradients are those of this loss. Those of less than a fiftieth of all are left out: what the
    loss changes by along them is rounded.
    """
    apply, params = jitted(case)
    lengths = {name: float(np.linalg.norm(np.asarray(grad, np.float64))) for name, grad in grads.items()}
    step = 5e-3

    def loss(name, sign):
        moved = params[name] + jnp.float32(sign * step / lengths[name]) * grads[name]
        return np.sum(np.sin(np.asarray(apply(params | {name: moved}, **arguments), np.float64)))

    found = [name for name, length in lengths.items() if length > 0.02 * np.linalg.norm(list(lengths.values()))]
    return {name: (loss(name, 1) - loss(name, -1)) / (2 * step * lengths[name]) for name in found}


def padded_mask(case):
    """Return the indices [2, NUM_REAL] of real points, and the mask [2, N] that marks them."""
    real = np.stack([np.arange(NUM_REAL)] * 2)
    if CASES[case].padding != "trailing":
        real[1] = [1, 2, 4, 5, 7, 9, 10]
    mask = np.zeros((2, CASES[case].num_points), bool)
    np.put_along_axis(mask, real, True, axis=1)
    return real, mask


def row_of(arguments):
    """Return a batch of the second sample alone."""
    return {name: jnp.asarray(np.asarray(value)[1:2]) for name, value in arguments.items()}


@pytest.mark.parametrize("case", ["flare", "backbone_flarepp", "transolver", "linear"])
def test_jit_is_eager_and_a_batch_of_one_is_a_row_of_the_batch(case):
    """For all models, of one sample, the test of bfloat16 shows that they take it, and the next one the numbers."""
    graphdef, params = build_perturbed(case, **CASES[case].small)
    row = apply_fn(graphdef)(params, **row_of(real_inputs(case)))
    assert_close("row", row, predict(case, real_inputs(case))[1:2], 1e-5)


@every_case
def test_samples_do_not_meet(case):
    arguments = real_inputs(case)
    beside = {name: jnp.asarray(np.asarray(value)[[1, 1]]) for name, value in arguments.items()}
    y, y_beside = predict(case, arguments)[1:], predict(case, beside)
    assert_close("first row", y_beside[:1], y, 1e-5)
    assert_close("second row", y_beside[1:], y, 1e-5)


@gradient_case
def test_gradients_are_finite_and_present(case):
    if CASES[case].padding in ("anywhere", "trailing"):
        (grads, input_grads), _ = padded_gradients(case)
    else:
        (grads, input_grads), _ = gradients(case)(jitted(case)[1], real_inputs(case), None)
    absent = set()
    for name, grad in (grads | input_grads).items():
        assert np.isfinite(np.asarray(grad)).all(), name
        absent |= set() if np.asarray(grad).any() else {name}
    assert absent <= set(CASES[case].no_gradient)


@permuting_case
def test_permuted_points_give_permuted_outputs(case):
    arguments = real_inputs(case)
    order = np.random.default_rng(3).permutation(arguments["x"].shape[1])
    permuted = take_points(case, arguments, np.stack([order] * 2))
    assert_close("permuted", predict(case, permuted), predict(case, arguments)[:, order], 1e-5)


@masked_case
def test_padding_with_a_mask_is_no_padding_even_if_it_holds_nan(case):
    """The prediction is that for the real points alone, and along its gradients it changes as they say.

    They are those beside other padding too, of other numbers and, where a model takes it anywhere, in other places.
    """
    _, params = jitted(case)
    real, mask = padded_mask(case)
    (grads, input_grads), y = padded_gradients(case)
    alone = take_points(case, inputs(case), real)
    assert np.isfinite(np.asarray(y)).all()
    assert_close("prediction", np.asarray(y)[mask], predict(case, alone).reshape(2 * NUM_REAL, -1), 1e-5)

    other_mask = mask if CASES[case].padding == "trailing" else mask[:, ::-1]
    other = place_points(case, alone, other_mask)
    (expected_grads, expected_input_grads), _ = gradients(case)(params, other, jnp.asarray(other_mask))
    for name, grad in input_grads.items():
        if name == "x" or name in CASES[case].point_inputs:
            grad, expected = np.asarray(grad), np.asarray(expected_input_grads[name])
            assert not grad[~mask].any(), name
            grad, expected_input_grads[name] = grad[mask], expected[other_mask]
        assert_close(f"gradient of {name}", grad, expected_input_grads[name], 1e-4)
    largest = max(np.abs(np.asarray(grad)).max() for grad in grads.values())
    for name, grad in grads.items():
        # The absolute bound is for gradients that vanish mathematically, such as those of key biases.
        assert_close(name, grad, expected_grads[name], 1e-4, absolute=1e-5 * largest)
    for name, slope in slopes_along(case, grads, alone).items():
        assert slope == pytest.approx(1, abs=1e-2), name


@in_place_case
def test_masked_points_of_a_grid_have_no_influence_even_if_they_hold_nan(case):
    _, params = jitted(case)
    _, mask = padded_mask(case)
    (grads, input_grads), y = gradients(case)(params, poison_points(case, inputs(case), mask), jnp.asarray(mask))
    (expected_grads, _), expected_y = gradients(case)(params, inputs(case), jnp.asarray(mask))
    y = np.asarray(y)
    assert np.isfinite(y).all()
    assert_close("prediction", y[mask], np.asarray(expected_y)[mask], 1e-6)
    assert rms_ratio(y[mask], predict(case, inputs(case))[mask]) > 1e-3, "the mask has no effect"
    assert not any(np.asarray(input_grads[name])[~mask].any() for name in ("x", *CASES[case].point_inputs))
    for name, grad in grads.items():
        assert_close(name, grad, expected_grads[name], 1e-5)


@refusing_case
def test_a_mask_that_cannot_be_honoured_is_an_error(case):
    graphdef, params = build_perturbed(case, **CASES[case].small)
    mask = jnp.ones((2, CASES[case].num_points), bool)
    with pytest.raises(ValueError, match="mask") as raised:
        jax.eval_shape(apply_fn(graphdef), params, mask=mask, **inputs(case))
    assert "\n" not in str(raised.value)


@every_case
def test_bfloat16_of_a_batch_of_one_is_close_and_returns_float32(case):
    """Parameters are float32 nevertheless, as `build_perturbed` wants them."""
    half, params = jitted(case, "bfloat16")
    y = half(params, **row_of(real_inputs(case)))
    assert y.dtype == jnp.float32
    ratio = rms_ratio(y, predict(case, real_inputs(case))[1:2])
    assert 1e-4 < ratio < CASES[case].bfloat16_ratio, "a ratio near zero would mean that bfloat16 is not used"


@every_case
def test_points_of_the_wrong_width_are_an_error(case):
    graphdef, params = build_perturbed(case, **CASES[case].small)
    wrong = inputs(case) | {"x": jnp.ones((2, CASES[case].num_points, CASES[case].in_dim + 1))}
    with pytest.raises(ValueError, match=r"x has shape \(2, \d+, \d\)"):
        jax.eval_shape(apply_fn(graphdef), params, **wrong)


@pytest.mark.parametrize("case", ["flare", "flare_ablations"])
def test_scores_do_not_change_the_prediction(case):
    apply, params = jitted(case)
    y, scores = apply(params, x=points(), return_scores=True)
    assert_close("prediction", y, apply(params, x=points()), 1e-6)
    assert [s.shape for s in scores] == [(2, CASES[case].options["num_heads"], 5, 11)]


def test_the_scale_reaches_prediction_and_scores():
    graphdef, params = build_perturbed("flare", attn_scale=1.0, num_blocks=1)
    apply, _ = jitted("flare")
    y, scores = apply(params, x=points(), return_scores=True)
    unit = jax.jit(apply_fn(graphdef), static_argnames="return_scores")
    other, unscaled = unit(params, x=points(), return_scores=True)
    assert_close("scores", scores[0], 0.37 * np.asarray(unscaled[0]), 1e-6)
    assert rms_ratio(y, other) > 1e-3


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
        (jnp.ones((2, 0, 3)), None, r"x has shape \(2, 0, 3\), so there is no point in it"),
        (jnp.ones((0, 5, 3)), None, r"x has shape \(0, 5, 3\), so there is no point in it"),
        (jnp.ones((2, 5, 3), int), None, "x has dtype int32 but must be floating point"),
    ],
)
def test_bad_inputs(x, mask, message):
    with pytest.raises(ValueError, match=message):
        check_points(x, mask, 3)

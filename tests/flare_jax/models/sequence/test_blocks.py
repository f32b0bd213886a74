"""What the blocks of every backend must satisfy: jit, gradients, batches, masks, permutation, positions, bfloat16."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flare_jax.models.sequence import BACKENDS
from flare_jax.params import apply_fn
from tests.flare_jax.models.sequence.cases import CASES, block, features, trailing_mask
from tests.numerics import assert_close, rms_ratio

pytestmark = pytest.mark.slow

every_case = pytest.mark.parametrize("case", CASES)


def cases_where(condition):
    return pytest.mark.parametrize("case", [name for name, case in CASES.items() if condition(case)])


@functools.cache
def jitted(case, dtype="float32", rope=False):
    graphdef, params = block(case, dtype, rope)
    return jax.jit(apply_fn(graphdef)), params


@functools.cache
def gradients(case):
    """Return the jitted function to (gradients for parameters and inputs, output) of a loss over real tokens."""
    apply = apply_fn(block(case)[0])

    def loss(params, x, mask):
        y = apply(params, x, mask)
        return jnp.sum(jnp.sin(y) if mask is None else jnp.where(mask[..., None], jnp.sin(y), 0)), y

    return jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))


def real(case):
    """Return features without masked tokens: of as many tokens as the masks leave, where padding is no padding."""
    x = np.asarray(features())
    return x[:, :7] if CASES[case].padding == "removable" else x


def predict(case, x, mask=None):
    """Return the output for features of the shape of `real`, or of `features` with a mask.

    By the program of the gradients, which is compiled anyway; the eager block and that in bfloat16 are evaluated
    without derivatives.
    """
    return np.asarray(gradients(case)(block(case)[1], jnp.asarray(x), mask)[1])


def largest_of(gradients):
    """Return the largest absolute value of all gradients."""
    return max(float(np.abs(np.asarray(grad)).max()) for grad in gradients.values())


def changed_padding(mask):
    """Return the features with another content where `mask` is false."""
    x = np.asarray(features())
    return np.where(np.asarray(mask)[..., None], x, 10 * np.cos(x))


def test_the_cases_leave_no_option_at_its_default():
    for name in {case.backend for case in CASES.values()}:
        cases = [case for case in CASES.values() if case.backend == name]
        known = BACKENDS[name].options()
        kept = {n for n, p in known.items() if all(c.options.get(n, p.default) == p.default for c in cases)}
        # The first three are those of every backend; mixers without attention probabilities have no dropout of them.
        beside = {"num_heads", "act", "rmsnorm", "attn_drop"}
        # The cases of the PDE models have these of FLARE's mixer.
        of_flare = {name for name in known if "gating" in name} | {"qk_norm", "shared_latents", "num_latent_blocks"}
        elsewhere = {"flare": of_flare, "flarepp": {"channel_dim", "explicit_residual"}}
        assert kept <= beside | elsewhere.get(name, set()), name


def test_backends_are_described():
    for name, backend in BACKENDS.items():
        assert "O(N" in backend.summary, name
        assert backend.paper.startswith(("arXiv", "no paper")), name
        assert {"num_heads", "act", "rmsnorm"} <= set(backend.options()), name


@pytest.mark.parametrize("case", ["transformer", "flare", "ema", "quad"])
def test_jit_is_eager_and_a_batch_of_one_is_a_row_of_the_batch(case):
    """For all blocks, of one sample, the test of bfloat16 shows that they take it, and the next one the numbers."""
    graphdef, params = block(case)
    row = apply_fn(graphdef)(params, jnp.asarray(real(case)[1:]))
    assert_close("row", row, predict(case, real(case))[1:], 1e-5)


@every_case
def test_samples_do_not_meet(case):
    y, beside = predict(case, real(case))[1:], predict(case, real(case)[[1, 1]])
    assert_close("first row", beside[:1], y, 1e-5)
    assert_close("second row", beside[1:], y, 1e-5)


@every_case
def test_gradients_are_finite_and_present(case):
    (grads, dx), _ = gradients(case)(block(case)[1], jnp.asarray(real(case)), None)
    largest = largest_of(grads)
    for name, grad in (grads | {"x": dx}).items():
        assert np.isfinite(np.asarray(grad)).all(), name
        present = largest_of({name: grad}) > 1e-6 * largest
        assert present == (name not in CASES[case].no_gradient), name


@cases_where(lambda case: case.permutes)
def test_permuted_tokens_give_permuted_outputs(case):
    order = np.random.default_rng(3).permutation(real(case).shape[1])
    assert_close("permuted", predict(case, real(case)[:, order]), predict(case, real(case))[:, order], 1e-5)


@cases_where(lambda case: not case.permutes)
def test_the_order_of_the_tokens_matters_where_it_should(case):
    order = np.random.default_rng(3).permutation(real(case).shape[1])
    assert rms_ratio(predict(case, real(case)[:, order]), predict(case, real(case))[:, order]) > 1e-3


@cases_where(lambda case: case.padding == "removable")
def test_padding_with_a_mask_is_no_padding(case):
    _, params = block(case)
    (grads, dx), y = gradients(case)(params, features(), trailing_mask((7, 7)))
    (expected_grads, expected_dx), expected = gradients(case)(params, jnp.asarray(real(case)), None)
    assert_close("output", np.asarray(y)[:, :7], expected, 1e-5)
    assert_close("gradient of x", np.asarray(dx)[:, :7], expected_dx, 1e-4)
    largest = largest_of(grads)
    for name, grad in grads.items():
        assert_close(name, grad, expected_grads[name], 1e-4, absolute=1e-5 * largest)
    for sample, lengths in enumerate(((7, 9), (9, 7))):
        y = predict(case, features(), trailing_mask(lengths))
        assert_close("beside another length", y[sample, :7], np.asarray(expected)[sample], 1e-5)


@cases_where(lambda case: case.padding in ("removable", "inert"))
def test_the_content_of_padding_does_not_matter(case):
    mask = trailing_mask()
    y, changed = (predict(case, x, mask) for x in (features(), changed_padding(mask)))
    assert_close("real tokens", changed[np.asarray(mask)], y[np.asarray(mask)], 1e-6)


@cases_where(lambda case: case.padding == "ignored")
def test_padding_is_mixed_where_masks_are_ignored(case):
    mask = trailing_mask()
    y, changed = (predict(case, x, mask) for x in (features(), changed_padding(mask)))
    assert rms_ratio(changed[np.asarray(mask)], y[np.asarray(mask)]) > 1e-3


@cases_where(lambda case: case.padding != "refused")
def test_samples_without_any_token_stay_finite(case):
    (grads, _), y = gradients(case)(block(case)[1], features(), trailing_mask((0, 9)))
    assert np.isfinite(np.asarray(y)).all()
    assert all(np.isfinite(np.asarray(grad)).all() for grad in grads.values())


@cases_where(lambda case: case.padding == "refused")
def test_a_refused_mask_is_one_clear_sentence(case):
    graphdef, params = block(case)
    with pytest.raises(ValueError, match="takes no mask of padded") as raised:
        jax.eval_shape(apply_fn(graphdef), params, features(), trailing_mask())
    assert "\n" not in str(raised.value)


@cases_where(lambda case: case.rope)
def test_rotary_embeddings_tell_positions_apart(case):
    with_rope, params = jitted(case, rope=True)
    x = real(case)
    y = np.asarray(with_rope(params, jnp.asarray(x)))
    assert rms_ratio(with_rope(params, jnp.asarray(x[:, ::-1])), y[:, ::-1]) > 1e-4
    assert rms_ratio(predict(case, x), y) > 1e-4


@every_case
def test_bfloat16_of_a_batch_of_one_is_close(case):
    half, params = jitted(case, "bfloat16")
    y = half(params, jnp.asarray(real(case)[1:].astype(jnp.bfloat16)))
    assert y.dtype == jnp.bfloat16
    assert 1e-4 < rms_ratio(y, predict(case, real(case))[1:]) < CASES[case].bfloat16_ratio


@cases_where(lambda case: case.options.get("proj_drop", 0) > 0)
def test_dropout_needs_a_key_and_depends_on_it(case):
    graphdef, params = block(case)
    x = jnp.asarray(real(case))
    dropped = jax.jit(lambda params, x, key: apply_fn(graphdef)(params, x, None, key))
    first = np.asarray(dropped(params, x, jax.random.key(1)))
    assert np.isfinite(first).all()
    assert rms_ratio(first, predict(case, x)) > 1e-2
    assert rms_ratio(dropped(params, x, jax.random.key(2)), first) > 1e-2
    assert (np.asarray(dropped(params, x, jax.random.key(1))) == first).all()

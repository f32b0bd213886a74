"""The spectrum of the token mixing against dense N × N matrices, and its options."""

import jax.numpy as jnp
import numpy as np
import pytest

from flare_jax.analysis import effective_rank, mixing_eigenvalues, mixing_spectrum
from tests.numerics import assert_close


def random_scores(b=2, h=2, m=6, n=15, amplitude=2.0, seed=0):
    return amplitude * np.random.default_rng(seed).standard_normal((b, h, m, n)).astype(np.float32)


def softmax(x, axis):
    weights = np.exp(x - x.max(axis, keepdims=True))
    return weights / weights.sum(axis, keepdims=True)


def dense_mixing(scores):
    scores = np.asarray(scores, np.float64)
    return softmax(scores, -2).swapaxes(-1, -2) @ softmax(scores, -1)


def reconstruct(spectrum):
    """Return W = X diag(λ) Xᵀ diag(c)."""
    vectors = np.asarray(spectrum.eigenvectors, np.float64)
    columns = np.exp(np.asarray(spectrum.log_column_sums, np.float64))
    return (vectors * np.asarray(spectrum.eigenvalues)[..., None, :]) @ vectors.swapaxes(-1, -2) * columns[..., None, :]


@pytest.mark.parametrize(("precision", "ratio"), [("float32", 1e-5), ("float64", 1e-10)])
def test_eigenvalues_are_those_of_the_dense_matrix(precision, ratio):
    scores = random_scores()
    values = np.asarray(mixing_spectrum(scores, precision=precision).eigenvalues)
    expected = np.sort(np.linalg.eigvals(dense_mixing(scores)).real, axis=-1)[..., ::-1][..., :6]
    assert_close("eigenvalues", values, expected, ratio)
    assert_close("largest", values[..., 0], np.ones((2, 2)), 1e-6)
    assert (np.diff(values, axis=-1) <= 0).all()


@pytest.mark.parametrize(("precision", "ratio"), [("float32", 1e-4), ("float64", 1e-10)])
def test_eigenvectors(precision, ratio):
    scores = random_scores()
    spectrum = mixing_spectrum(scores, precision=precision, eigenvectors=True)
    mixing = dense_mixing(scores)
    assert_close("row sums", mixing.sum(-1), np.ones((2, 2, 15)), 1e-12)
    assert_close("W", reconstruct(spectrum), mixing, ratio)
    assert_close("row sums of W", reconstruct(spectrum).sum(-1), np.ones((2, 2, 15)), ratio)
    vectors = np.asarray(spectrum.eigenvectors, np.float64)
    assert_close("W x = λ x", mixing @ vectors, vectors * np.asarray(spectrum.eigenvalues)[..., None, :], ratio)
    columns = np.exp(np.asarray(scores, np.float64)).sum(-2)
    assert_close("column sums", np.exp(np.asarray(spectrum.log_column_sums, np.float64)), columns, ratio)
    norms = np.einsum("bhnm,bhn,bhnk->bhmk", vectors, columns, vectors)
    assert_close("normalisation", norms, np.broadcast_to(np.eye(6), (2, 2, 6, 6)), ratio)


def test_eigenvectors_are_only_made_on_request():
    assert mixing_spectrum(random_scores()).eigenvectors is None


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_eigenvectors_of_vanishing_eigenvalues_are_zero(precision):
    scores = random_scores()
    scores[:, :, 3:] = scores[:, :, :3]
    spectrum = mixing_spectrum(scores, precision=precision, eigenvectors=True)
    values, vectors = np.asarray(spectrum.eigenvalues), np.asarray(spectrum.eigenvectors)
    assert (values >= 0).all()
    assert (values[..., 3:] < 1e-6).all()
    assert np.isfinite(vectors).all()
    if precision == "float64":
        assert not vectors[..., 3:].any()
    assert_close("W", reconstruct(spectrum), dense_mixing(scores), 1e-4)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_masked_points_take_no_part(precision):
    scores = random_scores()
    mask = np.arange(15)[None] < np.array([[15], [9]])
    padded = np.where(mask[:, None, None], scores, np.nan)
    spectrum = mixing_spectrum(padded, mask, precision=precision, eigenvectors=True)
    for case, count in enumerate((15, 9)):
        alone = mixing_spectrum(scores[case : case + 1, ..., :count], precision=precision, eigenvectors=True)
        assert_close("eigenvalues", spectrum.eigenvalues[case], alone.eigenvalues[0], 1e-5)
        assert_close("W", reconstruct(spectrum)[case, :, :count, :count], reconstruct(alone)[0], 1e-4)
    assert not np.asarray(spectrum.eigenvectors)[1, :, 9:].any()


def test_scores_are_clipped_by_default():
    scores = random_scores(amplitude=40.0)
    values = mixing_spectrum(scores, precision="float64").eigenvalues
    clipped = mixing_spectrum(np.clip(scores, -30, 30), precision="float64", clip=None).eigenvalues
    assert_close("clipped", values, clipped, 1e-10)
    assert np.abs(values - mixing_spectrum(scores, precision="float64", clip=None).eigenvalues).max() > 1e-3


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_any_logit_is_safe_without_clipping(precision):
    scores = random_scores(amplitude=500.0)
    values = np.asarray(mixing_spectrum(scores, precision=precision, clip=None).eigenvalues)
    expected = np.sort(np.linalg.eigvals(dense_mixing(scores)).real, axis=-1)[..., ::-1][..., :6]
    assert_close("eigenvalues", values, expected, 1e-4, absolute=1e-5)


def test_jittable_eigenvalues_are_the_same():
    values, finite = mixing_eigenvalues(jnp.asarray(random_scores()))
    assert_close("eigenvalues", values, mixing_spectrum(random_scores()).eigenvalues, 1e-6)
    assert finite.all()


def test_jittable_eigenvalues_flag_the_samples_with_nan():
    scores = random_scores()
    scores[1, 0, 2, 3] = np.nan
    _, finite = mixing_eigenvalues(jnp.asarray(scores))
    assert np.asarray(finite).tolist() == [True, False]


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_nan_is_an_error(precision):
    scores = random_scores()
    scores[1, 0, 2, 3] = np.nan
    with pytest.raises(ValueError, match="spectrum matrix with NaN or Inf; check model parameters and inputs"):
        mixing_spectrum(scores, precision=precision)


def test_bad_clip():
    with pytest.raises(ValueError, match=r"clip is -1.0 but must be a positive number"):
        mixing_spectrum(random_scores(), clip=-1.0)


def test_effective_rank_of_known_mixings():
    constant = np.zeros((1, 1, 5, 20), np.float32)
    assert_close("constant scores", effective_rank(mixing_spectrum(constant).eigenvalues), [[1.0]], 1e-4)
    # Every latent owns one fifth of the points: five eigenvalues of 1.
    partition = 30 * np.repeat(np.eye(5, dtype=np.float32), 4, axis=1)[None, None]
    assert_close("partition", effective_rank(mixing_spectrum(partition).eigenvalues), [[5.0]], 1e-4)
    halves = np.array([[[0.5, 0.5, 0.0]]])
    assert_close("two of three", effective_rank(halves), [[2.0]], 1e-12)

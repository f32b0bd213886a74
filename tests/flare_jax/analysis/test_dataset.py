"""Spectra over a data set, statistics of scores, and figures."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flare_jax.analysis import (
    BlockAnalysis,
    ScoreStatistics,
    dataset_analysis,
    dataset_eigenvalues,
    mixing_spectrum,
    score_statistics,
)
from flare_jax.analysis.figures import eigenvalue_figure, score_figure, spectra_figure
from flare_jax.convert import to_torch
from tests.flare_jax.models import naive_flare
from tests.flare_jax.models.cases import build_perturbed, points
from tests.numerics import assert_close


def test_dataset_eigenvalues_cover_every_case_once():
    """Batches of other lengths, padding and fill-up samples give what each case gives alone."""
    graphdef, params = build_perturbed("flare_ablations")
    mask = jnp.arange(11)[None] < jnp.array([[11], [6], [0]])
    padded = jnp.where(mask[..., None], jnp.concatenate([points(), points(1)]), jnp.nan)
    batches = [(padded, mask), (points(1, 7), None)]
    collected = dataset_eigenvalues(graphdef, params, iter(batches))
    assert [block.shape for block in collected] == [(3, 3, 5)] * 2
    alone = [points()[:1], points()[1:, :6], points(1, 7)]
    for case, x in enumerate(alone):
        state = to_torch("flare_ablations", params)
        _, scores = naive_flare.forward(state, x, num_blocks=2, num_heads=3, act="silu")
        for block, score in zip(collected, scores, strict=True):
            expected = mixing_spectrum(score, precision="float64").eigenvalues[0]
            assert_close(f"case {case}", block[case], expected, 1e-4)


def test_dataset_statistics_are_those_of_each_case():
    graphdef, params = build_perturbed("flare_ablations")
    mask = jnp.arange(11)[None] < jnp.array([[11], [6], [0]])
    padded = jnp.where(mask[..., None], jnp.concatenate([points(), points(1)]), jnp.nan)
    blocks = dataset_analysis(graphdef, params, [(padded, mask)])
    state = to_torch("flare_ablations", params)
    for case, count in enumerate((11, 6)):
        _, scores = naive_flare.forward(state, points()[case : case + 1, :count], num_blocks=2, num_heads=3, act="silu")
        for block, score in zip(blocks, scores, strict=True):
            expected = score_statistics(jnp.asarray(score, jnp.float32))
            for name, values in expected._asdict().items():
                found = getattr(block.statistics, name)
                assert found.shape == (2, 3), "the sample without points is left out"
                assert_close(name, found[case], values[0], 1e-4, absolute=1e-6)


def test_nan_names_block_and_batch():
    graphdef, params = build_perturbed("flare_ablations")
    name = "blocks.1.att.latent_q"
    broken = params | {name: params[name].at[0, 0].set(jnp.nan)}
    with pytest.raises(ValueError, match="spectrum matrix of block 1 holds NaN or Inf in batch 0"):
        dataset_eigenvalues(graphdef, broken, [(points(), None)])


def test_models_without_scores_are_an_error():
    graphdef, params = build_perturbed("flare_ablations_latent_blocks")
    with pytest.raises(ValueError, match="num_latent_blocks is 2"):
        dataset_eigenvalues(graphdef, params, [(points(), None)])


def test_no_batches_is_an_error():
    graphdef, params = build_perturbed("flare_ablations")
    with pytest.raises(ValueError, match="batches is empty"):
        dataset_eigenvalues(graphdef, params, [])


def test_score_statistics_of_random_scores():
    scores = 20 * np.random.default_rng(0).standard_normal((2, 3, 4, 9)).astype(np.float32)
    mask = np.arange(9)[None] < np.array([[9], [5]])
    statistics = jax.jit(score_statistics)(
        jnp.asarray(np.where(mask[:, None, None], scores, np.nan)), jnp.asarray(mask)
    )
    for case, count in enumerate((9, 5)):
        real = scores[case, ..., :count].astype(np.float64)
        flat = real.reshape(3, -1)
        assert_close("minimum", statistics.minimum[case], flat.min(-1), 1e-6)
        assert_close("maximum", statistics.maximum[case], flat.max(-1), 1e-6)
        assert_close("mean", statistics.mean[case], flat.mean(-1), 1e-5)
        assert_close("deviation", statistics.deviation[case], flat.std(-1), 1e-5)
        assert_close("clipped", statistics.clipped[case], (np.abs(flat) > 30).mean(-1), 1e-6)
        encode = np.exp(real - real.max(-1, keepdims=True))
        encode /= encode.sum(-1, keepdims=True)
        entropy = -np.sum(encode * np.log(encode), -1).mean(-1) / np.log(count)
        assert_close("encode entropy", statistics.encode_entropy[case], entropy, 1e-4)
        decode = np.exp(real - real.max(-2, keepdims=True))
        decode /= decode.sum(-2, keepdims=True)
        entropy = -np.sum(decode * np.log(decode), -2).mean(-1) / np.log(4)
        assert_close("decode entropy", statistics.decode_entropy[case], entropy, 1e-4)


def test_entropy_of_uniform_and_single_weights():
    statistics = jax.jit(score_statistics)
    uniform = statistics(jnp.zeros((1, 1, 4, 4)))
    assert_close("encode", uniform.encode_entropy, [[1.0]], 1e-6)
    assert_close("decode", uniform.decode_entropy, [[1.0]], 1e-6)
    sharp = statistics(1e4 * jnp.eye(4)[None, None])
    assert_close("encode", sharp.encode_entropy, [[0.0]], 0.0, absolute=1e-6)
    assert_close("decode", sharp.decode_entropy, [[0.0]], 0.0, absolute=1e-6)


def random_spectra(blocks):
    generator = np.random.default_rng(0)
    return [np.sort(generator.random((3, 2, 6)), axis=-1)[..., ::-1] for _ in range(blocks)]


@pytest.mark.parametrize(("blocks", "panels"), [(1, 1), (2, 2), (5, 6), (8, 9)])
def test_eigenvalue_figure(blocks, panels):
    spectra = random_spectra(blocks)
    figure = eigenvalue_figure(spectra)
    assert len(figure.axes) == panels
    drawn = [axes for axes in figure.axes if axes.lines]
    assert len(drawn) == blocks
    assert {axes.get_yscale() for axes in drawn} == {"log"}
    assert_close("mean over cases", drawn[-1].lines[1].get_ydata(), spectra[-1][:, 1].mean(0), 1e-12)
    assert_close("last latent", drawn[-1].lines[2].get_xdata(), [5, 5], 0.0)
    assert_close("rounding", drawn[-1].lines[3].get_ydata(), [2**-23] * 2, 1e-12)


@pytest.mark.parametrize(("blocks", "shown"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (8, [1, 5, 8])])
def test_spectra_figure_shows_first_middle_and_last_block(blocks, shown):
    figure = spectra_figure(random_spectra(blocks))
    assert [axes.get_title() for axes in figure.axes] == [f"Block {number}" for number in shown]
    assert {axes.get_ylim() for axes in figure.axes} == {(1e-8, 2.0)}


def test_score_figure_shows_blocks_and_heads():
    generator = np.random.default_rng(0)
    fields = {name: generator.random((3, 2)) for name in ScoreStatistics._fields}
    blocks = [BlockAnalysis(spectrum, ScoreStatistics(**fields)) for spectrum in random_spectra(4)]
    panels = [axes for axes in score_figure(blocks).axes if axes.images]
    assert [axes.images[0].get_array().shape for axes in panels] == [(4, 2)] * 3
    assert_close("entropy", panels[1].images[0].get_array()[2], fields["encode_entropy"].mean(0), 1e-6)
    with pytest.raises(ValueError, match="spectra is empty"):
        score_figure([])


def test_figures_can_be_saved():
    for figure, kind, magic in [
        (eigenvalue_figure(random_spectra(2)), "png", b"\x89PNG"),
        (spectra_figure(random_spectra(2)), "pdf", b"%PDF"),
    ]:
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind)
        assert buffer.getvalue().startswith(magic)


def test_figures_without_blocks_are_an_error():
    with pytest.raises(ValueError, match="spectra is empty"):
        eigenvalue_figure([])

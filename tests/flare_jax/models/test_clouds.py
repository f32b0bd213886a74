"""Clouds in pieces: the prediction of the whole cloud, however it is cut, and decoding of points that it has not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flare_jax.mixers.softmax_sums import merge_sums, no_sums, sum_points
from flare_jax.models.clouds import KEEP, CloudModel
from flare_jax.models.pieces import predict_in_pieces
from flare_jax.params import apply_fn, merge
from tests.flare_jax.models.cases import CASES, build, build_perturbed
from tests.numerics import assert_close

MODELS = ("flare", "flarepp_identity", "backbone_simplifiedflarepp", "flare_pp")
POINTS = 37


@functools.cache
def example(case):
    """Return a model, points, a mask, and the prediction for the whole cloud; masked points hold NaN."""
    graphdef, params = build_perturbed(case, num_blocks=2)
    rng = np.random.default_rng(7)
    x = rng.standard_normal((2, POINTS, CASES[case].in_dim)).astype(np.float32)
    mask = np.arange(POINTS) < np.asarray([[POINTS], [29]])
    x = np.where(mask[..., None], x, np.nan).astype(np.float32)
    y = jax.jit(apply_fn(graphdef))(params, jnp.asarray(x), jnp.asarray(mask))
    return merge(graphdef, params), x, mask, np.asarray(y)


@pytest.mark.parametrize("case", MODELS)
def test_pieces_in_one_program_do_not_show(case):
    model, x, mask, y = example(case)
    graphdef, params = nnx.split(model)
    run = jax.jit(
        lambda params, size: predict_in_pieces(nnx.merge(graphdef, params), jnp.asarray(x), jnp.asarray(mask), size),
        static_argnums=1,
    )
    for size in (10, POINTS) if case == "flare" else (10,):
        assert_close(f"{size} points", run(params, size)[mask], y[mask], 1e-6)


@pytest.mark.parametrize("case", MODELS)
def test_encoding_and_decoding_is_the_prediction(case):
    model, x, mask, y = example(case)
    cloud = CloudModel(model, points_per_piece=10, keep=KEEP[len(case) % 3])
    assert_close("cloud", cloud(x, mask)[mask], y[mask], 1e-6)


def test_where_points_are_kept_does_not_matter():
    model, x, mask, _ = example("flare_pp")
    first, *rest = (CloudModel(model, points_per_piece=16, keep=keep).encode(x, mask) for keep in KEEP)
    for other in rest:
        for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(other), strict=True):
            assert_close("latents", a, b, 1e-6)


def test_any_points_are_decoded_from_one_encoding():
    model, x, mask, y = example("flarepp_identity")
    cloud = CloudModel(model, points_per_piece=16)
    encoded = cloud.encode(x, mask)
    shapes = {leaf.shape for leaf in jax.tree.leaves(encoded)}
    assert shapes == {(2, 2, 5, 6)}, "the encoding does not grow with the cloud"
    some = [3, 20, 5]
    assert_close("some of the points", cloud.decode(encoded, x[:, some]), y[:, some], 1e-6)
    other = np.random.default_rng(0).standard_normal((2, 50, 3)).astype(np.float32)
    alone = np.concatenate([cloud.decode(encoded, other[:, i : i + 1]) for i in (0, 49)], axis=1)
    assert_close("other points", cloud.decode(encoded, other)[:, [0, 49]], alone, 1e-6)


def test_empty_pieces_add_nothing():
    rng = np.random.default_rng(1)
    q, k, v = (jnp.asarray(rng.standard_normal(s), jnp.float32) for s in ((1, 2, 3, 4), (1, 5, 2, 4), (1, 5, 2, 4)))
    sums = sum_points(q, k, v, jnp.ones((1, 5), bool), scale=30.0)
    nothing = sum_points(q, k * jnp.nan, v, jnp.zeros((1, 5), bool), scale=30.0)
    for a, b in zip(merge_sums(sums, nothing), merge_sums(no_sums((1, 2, 3), 4), sums), strict=True):
        assert_close("merged", a, b, 0.0)
    assert not np.asarray(merge_sums(nothing, nothing).mean).any()


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("transformer", "need a mixer of FLARE or FLARE.., and this model has SelfAttention"),
        ("luna", "need a mixer of FLARE or FLARE.., and this model has PackedAttention"),
        ("flare_ablations_latent_blocks", "no form of FLARE's latent blocks"),
    ],
)
def test_models_without_pieces(case, message):
    with pytest.raises(ValueError, match=message):
        CloudModel(build(case))
    with pytest.raises(ValueError, match="points_per_piece is 0"):
        CloudModel(build("flare"), points_per_piece=0)

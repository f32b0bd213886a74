"""Clouds in pieces: the prediction of the whole cloud, however it is cut, and decoding of points that it has not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flare_jax.mixers.softmax_sums import merge_sums, no_sums, sum_points
from flare_jax.models import clouds
from flare_jax.models.clouds import CloudModel, EncodedCloud
from flare_jax.models.pieces import predict_in_pieces
from flare_jax.models.waiting_points import KEEP, WaitingPoints
from flare_jax.params import apply_fn, merge
from tests.flare_jax.models.cases import CASES, build, build_perturbed
from tests.numerics import assert_close
from tests.shape_checks import paused

MODELS = ("flare", "flarepp_identity", "backbone_simplifiedflarepp", "flare_pp")
POINTS = 37


PLACES = (*KEEP, "pages")


def cloud_model(model, place, monkeypatch, **options):
    """Return a model of clouds that keeps points at `place`: "pages" is the host's memory that is not page-locked."""
    if place == "pages":
        monkeypatch.setenv("XLA_PJRT_GPU_HOST_MEMORY_LIMIT_GB", "0")
    return CloudModel(model, keep="host" if place == "pages" else place, **options)


@functools.cache
def example(case):
    """Return a model, points, a mask, and the prediction for the whole cloud; masked points hold NaN."""
    graphdef, params = build_perturbed(case, num_blocks=3)
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


def test_blocks_of_one_program_share_the_room_of_the_points():
    def temporaries(num_blocks, points=4096):
        graphdef, params = nnx.split(build("flarepp_identity", num_blocks=num_blocks))
        x = jax.ShapeDtypeStruct((1, points, 3), jnp.float32)
        run = jax.jit(lambda params, x: predict_in_pieces(nnx.merge(graphdef, params), x, None, 64))
        return run.lower(params, x).compile().memory_analysis().temp_size_in_bytes

    room = 4096 * build("flarepp_identity").config.channel_dim * 4
    assert temporaries(num_blocks=4) < temporaries(num_blocks=1) + room / 2


@pytest.mark.parametrize("case", MODELS)
@pytest.mark.parametrize("place", PLACES)
def test_encoding_and_decoding_is_the_prediction(case, place, monkeypatch):
    model, x, mask, y = example(case)
    cloud = cloud_model(model, place, monkeypatch, points_per_piece=16)
    assert_close("prediction", cloud(x, mask)[mask], y[mask], 1e-6)
    decoded = cloud.decode(cloud.encode(x, mask), np.nan_to_num(x))
    assert_close("decoded", decoded[mask], y[mask], 1e-6)


@pytest.mark.parametrize(("case", "passes"), [("flare", 1), ("flare_pp", 2)])
def test_pieces_do_not_queue_up(case, passes, monkeypatch):
    model, x, mask, _ = example(case)
    waits = []
    wait = jax.block_until_ready
    monkeypatch.setattr(jax, "block_until_ready", lambda arrays: waits.append(type(arrays).__name__) or wait(arrays))
    CloudModel(model, points_per_piece=10)(x, mask)
    sums = 3 * 4 * passes  # blocks, pieces
    copies = 3 * 4
    assert len(waits) == sums + copies


@pytest.mark.parametrize("place", PLACES)
def test_what_the_device_holds_does_not_grow_with_the_cloud(place, monkeypatch):
    model, *_ = example("flare_pp")
    x = np.random.default_rng(2).standard_normal((1, 64, CASES["flare_pp"].in_dim)).astype(np.float32)
    cloud, width = cloud_model(model, place, monkeypatch, points_per_piece=4), model.config.channel_dim
    most = 0

    def counting(program):
        def counted(*inputs):
            nonlocal most
            result = program(*inputs)
            held = [array for array in jax.live_arrays() if array.shape == (1, 4, width)]
            most = max(most, sum(array.sharding.memory_kind == "device" for array in held))
            return result

        return counted

    keep = WaitingPoints.__setitem__

    def copied(waiting, number, x):
        keep(waiting, number, x)
        if isinstance(waiting.pieces[number], np.ndarray):
            # On the CPU arrays of the host are views of the device's, which would keep these.
            waiting.pieces[number] = waiting.pieces[number].copy()

    monkeypatch.setattr(WaitingPoints, "__setitem__", copied)
    for name in ("_embed", "_synthesis", "_gathered", "_read", "_finish"):
        monkeypatch.setattr(clouds, name, counting(getattr(clouds, name)))
    found = []
    for points in (16, 64):
        most = 0
        cloud(x[:, :points])
        found.append(most)
    # The piece that is worked on, before and after a block, those before and behind it; and those that are kept there.
    assert found[0] <= 5 + (4 if place == "device" else 0)
    assert found[1] - found[0] == (12 if place == "device" else 0)


@pytest.mark.parametrize("place", PLACES)
def test_every_program_is_compiled_once(place, monkeypatch):
    model, x, mask, _ = example("flare_pp")
    programs = {}
    for name in ("_embed", "_synthesis", "_queries", "_gathered", "_read", "_finish"):
        program = functools.partial(getattr(clouds, name).__wrapped__)  # a function of its own has a cache of its own
        programs[name] = jax.jit(program, static_argnums=(0, 3) if name == "_queries" else 0)
        monkeypatch.setattr(clouds, name, programs[name])
    cloud_model(model, place, monkeypatch, points_per_piece=16)(x, mask)
    assert {name: program._cache_size() for name, program in programs.items()} == dict.fromkeys(programs, 1)


def test_host_memory_is_page_locked_up_to_half_of_the_pool(monkeypatch):
    x = jnp.ones((1, 4, 8))
    waiting = WaitingPoints("host", points=2**25)  # 1 GiB
    for pool, memory in (("2", "pinned_host"), ("1", None), ("", "pinned_host"), ("1GB", "pinned_host")):
        monkeypatch.setenv("XLA_PJRT_GPU_HOST_MEMORY_LIMIT_GB", pool)
        waiting[0] = x
        (kept,) = waiting.pieces.values()
        assert isinstance(kept, np.ndarray if memory is None else jax.Array)
        assert memory is None or kept.sharding.memory_kind == memory
        (found,) = waiting
        assert found.sharding.memory_kind == "device"
        np.testing.assert_array_equal(found, x)


@pytest.mark.parametrize(("case", "passes"), [("flare", 1), ("flare_pp", 2)])
def test_nothing_is_embedded_or_read_for_no_use(case, passes, monkeypatch):
    model, x, mask, _ = example(case)
    calls = {"_embed": 0, "_read": 0}

    def counted(name, program, *inputs):
        calls[name] += 1
        return program(*inputs)

    for name in calls:
        monkeypatch.setattr(clouds, name, functools.partial(counted, name, getattr(clouds, name)))
    options = {"points_per_piece": 1 + POINTS // 4}
    CloudModel(model, keep="recompute", **options).encode(x, mask)
    assert calls == {"_embed": 4 * 3 * passes, "_read": 4 * (1 + 2) * passes}
    calls.update(_embed=0, _read=0)
    CloudModel(model, **options)(x, mask)
    assert calls == {"_embed": 4, "_read": 4 * 3}


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


def test_an_encoding_of_one_sample_serves_many():
    model, x, _, _ = example("flarepp_identity")
    cloud = CloudModel(model, points_per_piece=16)
    one, others = cloud.encode(x[:1]), np.nan_to_num(x[:, :20])
    alone = [cloud.decode(one, others[i : i + 1]) for i in (0, 1)]
    assert_close("both", cloud.decode(one, others), np.concatenate(alone), 1e-6)


def test_encodings_that_do_not_fit():
    model, x, _, _ = example("flare")
    cloud, x = CloudModel(model, points_per_piece=16), np.nan_to_num(x)
    encoded = cloud.encode(x)
    third = np.concatenate([x, x[:1]])
    for points, samples in ((x[:1], 1), (third, 3)):
        with pytest.raises(ValueError, match=f"the encoding has 2 samples, but the points have {samples}; give"):
            cloud.decode(encoded, points)
    fewer = EncodedCloud(encoded.blocks[:1])
    other = EncodedCloud(tuple(block._replace(q=block.q[:, :, :2], z=block.z[:, :, :2]) for block in encoded.blocks))
    for wrong in (fewer, other, EncodedCloud(())):
        with pytest.raises(ValueError, match=r"latents .*, but this model has 3 × \[.*; decode with the model"):
            cloud.decode(wrong, x)


def test_points_and_masks_are_checked_first():
    model, x, mask, _ = example("flare")
    cloud = CloudModel(model)
    with paused():
        for call in (cloud, cloud.encode):
            with pytest.raises(ValueError, match=r"mask has shape \(2, 36\) but x has"):
                call(x, mask[:, 1:])
        for call in (cloud, cloud.encode, lambda x: cloud.decode(EncodedCloud(()), x), model):
            with pytest.raises(ValueError, match=r"x is a list but must be an array \[B, N, 3\]; convert it"):
                call(x.tolist())
        with pytest.raises(ValueError, match=r"mask is a list but must be an array \[B, N\]; convert it"):
            cloud(x, mask.tolist())


@pytest.mark.parametrize(("case", "option"), [("flare", "return_scores"), ("flare_pp", "return_statistics")])
def test_pieces_give_predictions_alone(case, option):
    model, x, _, _ = example(case)
    with pytest.raises(ValueError, match=f"points_per_piece=10 gives predictions alone, and {option} is of all points"):
        model(jnp.asarray(x), points_per_piece=10, **{option: True})


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
        ("gnot", "need a model of FLARE or FLARE.., and this is GNOT"),
        ("flare_ablations_latent_blocks", "no form of FLARE's latent blocks"),
    ],
)
def test_models_without_pieces(case, message):
    with pytest.raises(ValueError, match=message):
        CloudModel(build(case))
    with pytest.raises(ValueError, match="points_per_piece is 0"):
        CloudModel(build("flare"), points_per_piece=0)

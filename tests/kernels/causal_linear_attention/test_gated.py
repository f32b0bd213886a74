"""The state that decays: chunks and kernels against the definition, with resets, masks and states; parts; errors."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from kernels import gated_linear_attention
from kernels.causal_linear_attention import gated_scheme, table
from tests.numerics import assert_close, cotangent, round_to_bfloat16

BATCH, POINTS, HEADS, WIDTH, CHANNELS = 2, 150, 2, 4, 5
FAST = ["xla", "pallas"]


@pytest.fixture(autouse=True)
def small_tiles(request, monkeypatch):
    """Make the kernels cut their work into several splits of several tiles."""
    if request.node.get_closest_marker("gpu") is None:
        block = table.GatedBlock(points=16, warps=4)
        monkeypatch.setattr(table, "GATED", table.GATED.with_launch(table.GatedBlocks(12, block, block, block)))


def inputs(per_channel, strength=0.3, dtype="float32", shape=(BATCH, POINTS, HEADS), width=WIDTH, channels=CHANNELS):
    rng = np.random.default_rng(0)
    batch, points, heads = shape
    arrays = {"q": (*shape, width), "k": (*shape, width), "v": (*shape, channels)}
    arguments = {name: jnp.asarray(rng.standard_normal(size), dtype) for name, size in arrays.items()}
    decay = -strength * rng.random((*shape, width) if per_channel else shape)
    decay[0, points // 2], decay[-1, 2 * points // 3] = -np.inf, -1e30
    arguments["log_decay"] = jnp.float32(decay)
    arguments["initial_state"] = jnp.float32(rng.standard_normal((batch, heads, width, channels)))
    return arguments, jnp.asarray(rng.random((batch, points)) < 0.8)


@functools.partial(jax.jit, static_argnames="implementation")
def outputs_and_gradients(arguments, mask, implementation):
    """Return outputs and gradients for cotangents that are the same for all implementations and dtypes."""

    def run(arguments):
        return gated_linear_attention(**arguments, mask=mask, implementation=implementation, return_state=True)

    (y, state), pull_back = jax.vjp(run, arguments)
    dy, dstate = (cotangent(i, x.shape) for i, x in enumerate((y, state)))
    (gradients,) = pull_back((round_to_bfloat16(dy).astype(y.dtype), dstate))
    return {"y": y, "state": state} | {f"d{name}": x for name, x in gradients.items()}


def assert_agrees(arguments, mask, implementation, ratio, cancelled):
    """Compare with the definition in float32; `cancelled` is for the gradient of the decays, where terms cancel."""
    wide = {name: x.astype(jnp.float32) for name, x in arguments.items()}
    expected = outputs_and_gradients(wide, mask, "reference")
    for name, x in outputs_and_gradients(arguments, mask, implementation).items():
        assert np.isfinite(x).all(), name
        assert_close(name, x, expected[name], cancelled if name == "dlog_decay" else ratio)


# All channels without decay, decays as models have them, and such that parts of tiles are a few points, or one.
@pytest.mark.parametrize("strength", [0.0, 0.3, 30.0, 300.0])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("implementation", FAST)
def test_float32_agrees_with_the_definition(implementation, per_channel, strength):
    arguments, mask = inputs(per_channel, strength)
    if implementation == "pallas":
        assert_agrees(arguments, mask, implementation, 5e-6, 1e-5)
    else:
        # Differences of sums from the start of a chunk: where everything is forgotten at once little is left of them.
        assert_agrees(arguments, mask, implementation, 5e-5, 2e-3 if strength > 1 else 5e-5)


@pytest.mark.parametrize("implementation", FAST)
def test_single_channels_that_are_emptied_leave_others_exact(implementation):
    arguments, mask = inputs(True, 0.3)
    emptied = jax.random.bernoulli(jax.random.key(0), 0.2, arguments["log_decay"].shape)
    arguments["log_decay"] = jnp.where(emptied, -jnp.inf, arguments["log_decay"])
    assert_agrees(arguments, mask, implementation, 1e-4, 2e-4)


@pytest.mark.parametrize("strength", [0.03, 30.0])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("implementation", FAST)
def test_bfloat16_agrees_with_float32(implementation, per_channel, strength):
    arguments, mask = inputs(per_channel, strength, "bfloat16", width=16, channels=16)
    assert_agrees(arguments, mask, implementation, 1e-2, 1e-2)


@pytest.mark.parametrize("implementation", FAST)
def test_a_sequence_in_parts_is_the_whole(implementation):
    arguments, mask = inputs(True)
    state = arguments.pop("initial_state")

    @jax.jit
    def mix(x, mask, state):
        options = {"implementation": implementation, "return_state": True}
        return gated_linear_attention(**x, mask=mask, initial_state=state, **options)

    whole, final = mix(arguments, mask, state)
    parts = []
    for start, stop in ((0, 71), (71, 72), (72, 150)):
        y, state = mix({name: x[:, start:stop] for name, x in arguments.items()}, mask[:, start:stop], state)
        parts.append(y)
    assert_close("y", jnp.concatenate(parts, axis=1), whole, 1e-5)
    assert_close("state", state, final, 1e-5)


@pytest.mark.parametrize("strength", [0.3, 30.0])
def test_later_points_change_no_bit_of_a_kernel(strength):
    """Where a tile is cut into parts depends on earlier points alone."""
    arguments, _ = inputs(True, strength)
    mix = jax.jit(functools.partial(gated_linear_attention, implementation="pallas"))
    changed = {name: x.at[:, 70:].multiply(3) for name, x in arguments.items() if name != "initial_state"}
    changed["initial_state"] = arguments["initial_state"]
    np.testing.assert_array_equal(mix(**arguments)[:, :70], mix(**changed)[:, :70])


def test_padding_never_leaks():
    arguments, mask = inputs(True)
    state = arguments.pop("initial_state")
    poisoned = {name: jnp.where(mask[:, :, None, None], x, jnp.nan) for name, x in arguments.items()}
    poisoned["initial_state"] = state
    for name, x in outputs_and_gradients(poisoned, mask, "pallas").items():
        assert np.isfinite(x).all(), name


@pytest.mark.parametrize("implementation", FAST)
def test_vmap_and_shards_of_the_batch(implementation):
    arguments, _ = inputs(True, shape=(2, 40, 2))
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))

    def gradient(x):
        return jax.grad(lambda x: jnp.sum(jnp.sin(gated_linear_attention(**x, implementation=implementation))))(x)

    expected = jax.jit(gradient)(arguments)
    sharded = jax.shard_map(gradient, mesh=mesh, in_specs=P("data"), out_specs=P("data"), check_vma=False)
    mapped = jax.vmap(lambda x: jax.tree.map(lambda y: y[0], gradient(jax.tree.map(lambda y: y[None], x))))
    for name, way in (("shards", sharded), ("vmap", mapped)):
        for key, x in jax.jit(way)(arguments).items():
            assert_close(f"{name} {key}", x, expected[key], 1e-5)


@pytest.mark.parametrize("width", [1, 3])
def test_states_between_splits_are_the_recurrence(width, monkeypatch):
    rng = np.random.default_rng(0)
    initial, added = (jnp.float32(rng.standard_normal(size)) for size in ((2, 2, 3, 4), (2, 2, 9, 3, 4)))
    totals = jnp.float32(-3 * rng.random((2, 2, 9, width))).at[0, 1, 4].set(-256e3)
    expected, state = [], initial
    for split in range(9):
        expected.append(state)
        state = jnp.exp2(totals[:, :, split])[..., None] * state + added[:, :, split]
    for most in (72, 1):
        monkeypatch.setattr(gated_scheme, "_MOST_SUMMED", most)
        starts, final = gated_scheme.states_between(initial, added, totals)
        assert_close("starts", starts, jnp.stack(expected, axis=2), 1e-6)
        assert_close("final", final, state, 1e-6)


def test_a_step_of_decoding_takes_no_kernel():
    def text(points):
        x = jax.ShapeDtypeStruct((1, points, 2, 16), jnp.bfloat16)
        decay = jax.ShapeDtypeStruct((1, points, 2, 16), jnp.float32)
        call = jax.jit(lambda x, decay: gated_linear_attention(x, x, x, log_decay=decay))
        return call.trace(x, decay).lower(lowering_platforms=("cuda",)).as_text()

    assert "__gpu$xla.gpu.triton" in text(32)
    assert "__gpu$xla.gpu.triton" not in text(1)


# Larger than the interpreter can run, with the launches that users get: heads of the language models, and wide ones.
ON_GPU = {
    "gla": {"shape": (2, 3001, 6), "width": 32, "channels": 64},
    "head of 64": {"shape": (1, 4096, 4), "width": 64, "channels": 64},
    "wide": {"shape": (1, 1501, 2), "width": 96, "channels": 128},
}


@pytest.mark.gpu
@pytest.mark.parametrize("strength", [0.05, 30.0])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("sizes", ON_GPU.values(), ids=ON_GPU)
def test_default_launches_agree_on_gpu(sizes, per_channel, dtype, strength):
    arguments, mask = inputs(per_channel, strength, dtype, **sizes)
    arguments = {name: x * sizes["width"] ** -0.25 if name in "qk" else x for name, x in arguments.items()}
    assert_agrees(arguments, mask, "pallas", *((1e-5, 2e-5) if dtype == "float32" else (1.5e-2, 2e-2)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"log_decay": jnp.zeros((2, 150, 3))}, r"log_decay has shape \(2,150,3\) and dtype float32; give a float32"),
        ({"log_decay": jnp.zeros((2, 150, 2), jnp.bfloat16)}, "dtype bfloat16; give a float32 array"),
        ({"implementation": "triton"}, "implementation is 'triton'; give one of reference, xla, pallas"),
        ({"scale": -1}, "scale is -1; give a positive finite number"),
    ],
)
def test_errors_name_value_and_remedy(changes, message):
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(gated_linear_attention)(**{**inputs(False)[0], **changes})

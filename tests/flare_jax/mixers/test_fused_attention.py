"""Softmax attention among many points: in chunks of queries, and through cuDNN's kernel."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType

from flare_jax.mixers import SelfAttention, attention
from flare_jax.mixers.self_attention import SelfAttentionConfig
from flare_jax.parameter_keys import ParameterKeys
from tests.numerics import assert_close, round_to_bfloat16


def random_qkv(points: int, heads: int = 2, width: int = 8):
    keys = jax.random.split(jax.random.key(3), 3)
    return [round_to_bfloat16(jax.random.normal(key, (2, points, heads, width))) for key in keys]


def value_and_gradients(q, k, v, mask=None, implementation=None):
    """Return attention, and the gradients of its product with fixed numbers."""

    def total(q, k, v):
        y = attention.self_attention(q, k, v, scale=0.6, mask=mask, implementation=implementation)
        return jnp.sum(y.astype(jnp.float32) * jnp.cos(jnp.arange(y.size).reshape(y.shape))), y

    (_, y), gradients = jax.value_and_grad(total, argnums=(0, 1, 2), has_aux=True)(q, k, v)
    return [y, *gradients]


def assert_same(actual, expected, ratio):
    """Compare the results of `value_and_gradients`."""
    for name, one, other in zip(("y", "dq", "dk", "dv"), actual, expected, strict=True):
        assert_close(name, one, other, ratio)


@pytest.mark.parametrize("masked", [False, True])
def test_chunks_of_queries_change_nothing(masked, monkeypatch):
    q, k, v = random_qkv(37)
    mask = jnp.arange(37) < jnp.array([[37], [20]]) if masked else None
    expected = value_and_gradients(q, k, v, mask)
    monkeypatch.setattr(attention, "STORED_WEIGHTS", 2 * 2 * 37 * 10)
    assert "scan" in str(jax.make_jaxpr(lambda q: attention.self_attention(q, k, v, scale=0.6))(q))
    assert_same(jax.jit(value_and_gradients)(q, k, v, mask), expected, 1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("points", [512, 1001])
def test_cudnn_agrees_with_the_plain_form(points):
    q, k, v = random_qkv(points, width=16)
    half = [x.astype(jnp.bfloat16) for x in (q, k, v)]
    assert_same(jax.jit(value_and_gradients)(*half), jax.jit(value_and_gradients)(q, k, v), 1e-2)


@pytest.mark.gpu
def test_cudnn_is_chosen_where_it_serves():
    half = [jnp.zeros((1, 512, 2, 16), jnp.bfloat16)] * 3

    def calls_of(q, k, v, **options) -> bool:
        return "dot_product_attention_fwd" in str(
            jax.make_jaxpr(lambda q, k, v: attention.self_attention(q, k, v, scale=1.0, **options))(q, k, v)
        )

    assert calls_of(*half)
    assert not calls_of(*half, implementation="xla")
    assert not calls_of(*half, mask=jnp.ones((1, 512), bool))
    assert not calls_of(*(x.astype(jnp.float32) for x in half))
    assert not calls_of(*(x[:, :64] for x in half))


def test_what_cudnn_cannot_serve():
    with pytest.raises(ValueError, match="implementation is 'flash' but must be one of 'xla', 'cudnn'"):
        SelfAttention(16, SelfAttentionConfig(implementation="flash"), rngs=ParameterKeys(0))
    with pytest.raises(ValueError, match="implementation 'cudnn' takes float16 or bfloat16, not float32; use 'xla'"):
        SelfAttention(16, SelfAttentionConfig(implementation="cudnn"), rngs=ParameterKeys(0))


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="the machine has the kernel")
def test_cudnn_needs_its_device():
    att = SelfAttention(16, SelfAttentionConfig(implementation="cudnn"), dtype=jnp.bfloat16, rngs=ParameterKeys(0))
    with pytest.raises(ValueError, match="implementation 'cudnn' needs an NVIDIA GPU, and this is a cpu; use 'xla'"):
        att(jnp.zeros((1, 8, 16), jnp.bfloat16))


@pytest.mark.parametrize("capability", ["7.5", "gfx942"])
def test_gpus_without_the_kernel_take_the_plain_form(capability, monkeypatch):
    monkeypatch.setattr(attention, "platform", lambda: "cuda")
    monkeypatch.setattr(attention, "_capability", lambda: capability)
    half = [jnp.ones((1, 512, 1, 8), jnp.bfloat16)] * 3
    assert attention.self_attention(*half, scale=1.0).shape == (1, 512, 1, 8)
    with pytest.raises(ValueError, match=f"capability 8 or later, and this one has {capability}; use 'xla'"):
        attention.self_attention(*half, scale=1.0, implementation="cudnn")


def test_on_a_gpu_machine_the_place_of_the_arrays_decides(monkeypatch):
    monkeypatch.setattr(attention, "platform", lambda: "cuda")
    monkeypatch.setattr(attention, "_capability", lambda: "9.0")
    monkeypatch.setattr(attention, "fused_attention", lambda q, k, v, scale: q * k * 0 + 1234.0 * v)
    half = [x.astype(jnp.bfloat16) for x in random_qkv(512, heads=1)]
    run = jax.jit(value_and_gradients, static_argnames="implementation")
    on_cpu = [jax.device_put(x, jax.devices("cpu")[0]) for x in half]
    assert_same(run(*on_cpu), run(*on_cpu, implementation="xla"), 1e-6)
    program = run.trace(*half).lower(lowering_platforms=("cuda",)).as_text()
    assert "1.232000e+03" in program  # 1234 in bfloat16
    assert "stablehlo.exponential" not in program


def test_points_split_over_a_mesh_take_the_plain_form(monkeypatch):
    monkeypatch.setattr(attention, "platform", lambda: "cuda")
    monkeypatch.setattr(attention, "_capability", lambda: "9.0")
    half = [jnp.ones((1, 512, 1, 8), jnp.bfloat16)] * 3
    mesh = jax.sharding.AbstractMesh((1, 4), ("data", "points"), axis_types=(AxisType.Auto,) * 2)

    def shape_on_the_mesh(implementation):
        attend = partial(attention.self_attention, scale=1.0, implementation=implementation)
        with jax.sharding.use_abstract_mesh(mesh):
            return jax.eval_shape(attend, *half).shape

    assert shape_on_the_mesh(None) == (1, 512, 1, 8)
    with pytest.raises(ValueError, match="needs all points of a sample on one device, but the mesh splits them"):
        shape_on_the_mesh("cudnn")

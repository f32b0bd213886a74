"""Functions that are decided when a program is lowered: transformations, meshes, exports."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from kernels import (
    array_code,
    causal_flare,
    causal_linear_attention,
    flare_mixer,
    gather,
    residual_mlp,
    triple_attention,
)
from kernels._target import Target, on_target

X = jnp.arange(12.0).reshape(3, 4)


def named(target, x):
    """Add a number that tells the platforms apart."""
    return {"y": x + {"cpu": 1.0, "cuda": 2.0}.get(target.platform, 3.0), "rows": jnp.sum(x, axis=-1)}


def constant_of(function, platform):
    text = jax.jit(function).trace(X).lower(lowering_platforms=(platform,)).as_text()
    (found,) = {number for number in (1, 2, 3) if f"dense<{number}.0" in text}
    return found


def test_the_platform_of_the_program_decides():
    def function(x):
        return on_target(named, x)

    # Traced on the machine at hand, lowered for others.
    assert [constant_of(function, name) for name in ("cpu", "cuda", "rocm", "tpu")] == [1, 2, 3, 3]
    cpu = jax.device_put(X, jax.devices("cpu")[0])
    for run in (function, jax.jit(function), jax.jit(jax.checkpoint(function))):
        np.testing.assert_array_equal(run(cpu)["y"], X + 1)


def test_vmap_and_scan():
    mapped = jax.jit(jax.vmap(lambda x: on_target(lambda target, a, b: named(target, a * b), x, X[0]), in_axes=1))(X.T)
    np.testing.assert_allclose(mapped["y"] - X * X[0], mapped["y"][0, 0])
    assert mapped["rows"].shape == (3,)
    looped, _ = jax.jit(lambda x: jax.lax.scan(lambda c, _: (on_target(named, c)["y"], None), x, None, length=3))(X)
    np.testing.assert_array_equal(looped - X, looped[0, 0])


@pytest.mark.parametrize("check_vma", [True, False])
def test_inside_shard_map(check_vma):
    mesh = jax.make_mesh((1,), ("points",), axis_types=(AxisType.Auto,))
    mapped = jax.shard_map(
        lambda x: on_target(named, x), mesh=mesh, in_specs=P("points"), out_specs=P("points"), check_vma=check_vma
    )
    np.testing.assert_array_equal(jax.jit(mapped)(X)["rows"], jnp.sum(X, axis=1))


def test_a_mapped_function_knows_how_many_copies_run():
    def copies(target: Target, x: jax.Array) -> jax.Array:
        return x * target.copies

    mapped = jax.vmap(jax.vmap(functools.partial(on_target, copies), in_axes=1), in_axes=(0,))
    assert (jax.jit(mapped)(jnp.ones((3, 2, 5))) == 15).all()
    assert jax.jit(functools.partial(on_target, copies))(1.0) == 1


def test_equal_layers_are_traced_and_lowered_once():
    traced = []

    def scaled(factor: float, target: Target, x: jax.Array) -> jax.Array:
        traced.append(x.shape)
        return factor * x

    def layers(x: jax.Array) -> jax.Array:
        for factor in (2.0, 2.0, 3.0, 2.0):
            x = on_target(scaled, x, static=(factor,))
        return x

    lowered = jax.jit(layers).lower(X)
    assert len(traced) == 2
    assert lowered.as_text().count("func.func private") == 2
    np.testing.assert_array_equal(lowered.compile()(X), 24 * X)


def test_an_export_for_cpu_and_cuda_has_both():
    def loss(q, k, w, b):
        y = flare_mixer(q, k, k)
        y = residual_mlp(y, [w, w], [b, b], residual_in=True, residual_out=True, precision="default")
        return jnp.sum(y**2)

    arguments = [jnp.ones(shape) for shape in ((2, 4, 8), (1, 40, 2, 8), (8, 8), (8,))]
    kernels = export.DisabledSafetyCheck.custom_call("__gpu$xla.gpu.triton")
    exported = export.export(jax.jit(jax.grad(loss)), platforms=["cpu", "cuda"], disabled_checks=[kernels])(*arguments)
    assert exported.platforms == ("cpu", "cuda")
    text = exported.mlir_module()
    assert all(name in text for name in ("flare_scatter", "residual_mlp_backward", "stablehlo.case"))
    if jax.default_backend() == "cpu":
        np.testing.assert_allclose(exported.call(*arguments), jax.grad(loss)(*arguments), rtol=1e-5)


def test_the_shared_memory_of_gpus():
    known = {(7, 5): 64, (8, 0): 163, (8, 9): 99, (9, 0): 227, (10, 3): 227, (12, 0): 99, (6, 0): 0}
    assert {x: Target("cuda", x).shared_memory // 1024 for x in known} == known


@pytest.mark.gpu
def test_arrays_on_the_cpu_of_a_gpu_machine_and_on_its_gpu():
    """Every operation, traced once for each place."""
    x, q, w = jnp.ones((1, 40, 2, 16)), jnp.ones((2, 4, 16)), jnp.eye(32)

    def call(x, q, w):
        rows = x.reshape(40, 32)
        mixed = flare_mixer(q, x, x) + causal_flare(q, x, x) + causal_linear_attention(x, x, x)
        mixed = mixed + triple_attention(x, x, x, x, x) + jnp.sum(gather(q, x))
        return mixed, residual_mlp(rows, [w, w], [w[0], w[0]], residual_in=True, residual_out=True, precision="default")

    def gradient(*arguments):
        return jax.grad(lambda *a: sum(jnp.sum(y) for y in call(*a)), argnums=(0, 1, 2))(*arguments)

    places = [jax.devices(name)[0] for name in ("cpu", "gpu")]
    on_cpu, on_gpu = (jax.jit(gradient)(*jax.device_put((x, q, w), place)) for place in places)
    for one, other in zip(on_cpu, on_gpu, strict=True):
        assert {d.platform for d in one.devices()} == {"cpu"}
        np.testing.assert_allclose(one, other, rtol=2e-2, atol=1e-2)


def test_second_derivatives_are_those_of_array_code():
    x = jnp.ones((2, 3))
    weight, bias = jnp.full((3, 3), 0.3), jnp.zeros(3)

    def first(x):
        y = residual_mlp(x, [weight], [bias], residual_in=False, residual_out=False)
        return jnp.sum(y**3)

    def second(x):
        return jax.grad(lambda x: jnp.sum(jax.grad(first)(x)))(x)

    with pytest.raises(ValueError, match=r"first derivatives alone; take second ones within kernels\.array_code"):
        jax.eval_shape(second, x)
    with array_code():
        # Each of 3 channels of y is 0.3 Σ x = 0.9, so that an entry of the Hessian is 3 · 6 · 0.9 · 0.09; 3 are summed.
        np.testing.assert_allclose(second(x), jnp.full((2, 3), 3 * 3 * 6 * 0.9 * 0.09), rtol=1e-5)

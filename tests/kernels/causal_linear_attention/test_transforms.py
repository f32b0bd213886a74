"""The op under vmap, remat, shard_map and hostile padding, and the memory of the XLA version."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from kernels import causal_linear_attention
from tests.kernels.causal_linear_attention.cases import TRITON, Case, expected, inputs
from tests.numerics import assert_close

FAST = ["xla", "pallas"]


@functools.cache
def gradients_of_the_reference(case):
    """Return the gradients of one use with respect to queries, keys and values."""

    def loss(q, k, v):
        return jnp.sum(jnp.sin(causal_linear_attention(q, k, v, implementation="reference")))

    arguments = inputs(case)
    return jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(*(arguments[name] for name in "qkv"))


def loss_of_two_uses(x, attend):
    once = attend(x)
    return jnp.sum(jnp.sin(once) * attend(x | {"v": once}))


@functools.cache
def gradients_of_two_uses_of_the_reference():
    def plain(x):
        return causal_linear_attention(**x, implementation="reference")

    return jax.jit(jax.grad(lambda x: loss_of_two_uses(x, plain)))(inputs(Case()))


@pytest.mark.parametrize("implementation", [*FAST, TRITON])
def test_vmap_over_samples_is_the_batched_call(implementation):
    case = Case(state=False)
    arguments = inputs(case)

    def gradient_of_one(q, k, v):
        def loss(q, k, v):
            return jnp.sum(jnp.sin(causal_linear_attention(q[None], k[None], v[None], implementation=implementation)))

        return jax.grad(loss, argnums=(0, 1, 2))(q, k, v)

    gradients = jax.jit(jax.vmap(gradient_of_one))(*(arguments[name] for name in "qkv"))
    for name, a, b in zip("qkv", gradients, gradients_of_the_reference(case), strict=True):
        assert_close(name, a, b, 1e-5)


@pytest.mark.parametrize("implementation", FAST)
def test_remat_and_two_uses_give_the_same_gradient(implementation):
    attend = jax.checkpoint(lambda x: causal_linear_attention(**x, implementation=implementation))
    recomputed = jax.jit(jax.grad(lambda x: loss_of_two_uses(x, attend)))(inputs(Case()))
    for name, gradient in gradients_of_two_uses_of_the_reference().items():
        assert_close(name, recomputed[name], gradient, 1e-5)


@pytest.mark.parametrize(("implementation", "check_vma"), [("xla", True), ("pallas", False)])
def test_batch_sharded_in_shard_map(implementation, check_vma):
    arguments = inputs(Case())
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))
    specs = {name: P("data") for name in arguments}

    def local(x):
        return causal_linear_attention(**x, implementation=implementation, return_state=True)

    mapped = jax.shard_map(local, mesh=mesh, in_specs=(specs,), out_specs=P("data"), check_vma=check_vma)

    @jax.jit
    def gradient(x):
        y, pull_back = jax.vjp(mapped, x)
        return y, pull_back(jax.tree.map(jnp.ones_like, y))

    (y, state), (gradients,) = gradient(arguments)
    assert_close("y", y, expected(Case())["y"], 1e-5)
    assert_close("state", state, expected(Case())["state"], 1e-5)
    assert all(np.isfinite(x).all() for x in gradients.values())


@pytest.mark.parametrize(("implementation", "normalize"), [("reference", True), ("xla", True), ("pallas", False)])
def test_padding_never_leaks(implementation, normalize):
    arguments = inputs(Case(masked=True, normalize=normalize))
    mask, state = arguments.pop("mask"), arguments.pop("initial_state")
    poisoned = {name: jnp.where(mask[:, :, None, None], x, jnp.nan) for name, x in arguments.items()}

    @jax.jit
    def evaluate(x):
        def loss(x):
            y, final = causal_linear_attention(
                **x,
                mask=mask,
                initial_state=state,
                normalize=normalize,
                implementation=implementation,
                return_state=True,
            )
            return jnp.sum(y * y), (y, final)

        return jax.grad(loss, has_aux=True)(x)

    (gradients, (y, final)), poisoned_results = evaluate(arguments), evaluate(poisoned)
    for a, b in zip(*map(jax.tree.leaves, ((gradients, (y, final)), poisoned_results)), strict=True):
        np.testing.assert_array_equal(a, b)
    padding = ~np.asarray(mask)
    assert not np.any(np.asarray(y)[padding])
    assert not any(np.any(np.asarray(x)[padding]) for x in gradients.values())
    np.testing.assert_array_equal(final[-1], state[-1])  # the last sample has no real point


def test_memory_of_xla_grows_with_n_only():
    def temporary_bytes(points):
        x = jax.ShapeDtypeStruct((1, points, 4, 16), jnp.float32)
        gradient = jax.grad(lambda q, k, v: jnp.sum(causal_linear_attention(q, k, v, implementation="xla") ** 2))
        return jax.jit(gradient).lower(x, x, x).compile().memory_analysis().temp_size_in_bytes

    assert temporary_bytes(32_768) < 4.5 * temporary_bytes(8192)

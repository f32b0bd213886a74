"""The op under vmap, remat, shard_map and hostile padding, and the memory of the XLA version."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from kernels import causal_flare
from tests.kernels.causal_flare.cases import Case, expected, inputs, use_small_tiles
from tests.numerics import assert_close

FAST = ["xla", "pallas"]


SMALL = Case(points=20, state=False)


@functools.cache
def gradients_of_the_reference() -> tuple[jax.Array, jax.Array]:
    """Return the gradients of one use with respect to keys and values."""
    q, k, v = (inputs(SMALL)[name] for name in "qkv")

    def loss(k, v):
        return jnp.sum(jnp.sin(causal_flare(q, k, v, implementation="reference")))

    return jax.jit(jax.grad(loss, argnums=(0, 1)))(k, v)


def loss_of_two_uses(x, mix):
    once = mix(x)
    return jnp.sum(jnp.sin(once) * mix(x | {"v": once}))


@functools.cache
def gradients_of_two_uses_of_the_reference() -> dict[str, jax.Array]:
    def plain(x):
        return causal_flare(**x, implementation="reference")

    return jax.jit(jax.grad(lambda x: loss_of_two_uses(x, plain)))(inputs(SMALL))


@pytest.mark.parametrize("implementation", FAST)
def test_vmap_over_samples_is_the_batched_call(implementation):
    arguments = inputs(SMALL)
    q, k, v = (arguments[name] for name in "qkv")

    def gradient_of_one(k, v):
        def loss(k, v):
            return jnp.sum(jnp.sin(causal_flare(q, k[None], v[None], implementation=implementation)))

        return jax.grad(loss, argnums=(0, 1))(k, v)

    gradients = jax.jit(jax.vmap(gradient_of_one))(k, v)
    for name, a, b in zip("kv", gradients, gradients_of_the_reference(), strict=True):
        assert_close(name, a, b, 1e-5)


@pytest.mark.parametrize("implementation", FAST)
def test_remat_and_two_uses_give_the_same_gradient(implementation):
    mix = jax.checkpoint(lambda x: causal_flare(**x, implementation=implementation))
    recomputed = jax.jit(jax.grad(lambda x: loss_of_two_uses(x, mix)))(inputs(SMALL))
    for name, gradient in gradients_of_two_uses_of_the_reference().items():
        assert_close(name, recomputed[name], gradient, 1e-5)


@pytest.mark.parametrize(("implementation", "check_vma"), [("xla", True), ("pallas", False)])
def test_batch_sharded_in_shard_map(implementation, check_vma, monkeypatch):
    use_small_tiles(monkeypatch)
    arguments = inputs(Case())
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))
    specs = {name: P() if name == "q" else P("data") for name in arguments}

    def local(x):
        return causal_flare(**x, implementation=implementation)

    mapped = jax.shard_map(local, mesh=mesh, in_specs=(specs,), out_specs=P("data"), check_vma=check_vma)

    @jax.jit
    def evaluate(x):
        y, pull_back = jax.vjp(mapped, x)
        return y, pull_back(y)

    y, (gradients,) = evaluate(arguments)
    assert_close("y", y, expected(Case())["y"], 1e-5)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradients))


@pytest.mark.parametrize("implementation", ["reference", *FAST])
def test_padding_never_leaks(implementation):
    arguments = inputs(Case(masked=True, points=20, decode_width=3))
    mask, state, q, q_decode = (arguments.pop(name) for name in ("mask", "initial_state", "q", "q_decode"))
    poisoned = {name: jnp.where(mask[:, :, None, None], x, jnp.nan) for name, x in arguments.items()}

    @jax.jit
    def evaluate(tokens):
        def loss(tokens, q):
            y, final = causal_flare(
                q,
                **tokens,
                q_decode=q_decode,
                mask=mask,
                initial_state=state,
                implementation=implementation,
                return_state=True,
            )
            return jnp.sum(y * y), (y, final)

        return jax.grad(loss, argnums=(0, 1), has_aux=True)(tokens, q)

    results, poisoned_results = evaluate(arguments), evaluate(poisoned)
    for a, b in zip(*map(jax.tree.leaves, (results, poisoned_results)), strict=True):
        np.testing.assert_array_equal(a, b)
    (gradients, _), (y, final) = results
    padding = ~np.asarray(mask)
    assert not np.any(np.asarray(y)[padding])
    assert not any(np.any(np.asarray(x)[padding]) for x in gradients.values())
    for name, x in final._asdict().items():  # the last sample has no real token
        np.testing.assert_array_equal(x[-1], getattr(state, name)[-1])


def test_memory_of_xla_grows_with_n_only():
    def temporary_bytes(points):
        x = jax.ShapeDtypeStruct((1, points, 4, 8), jnp.float32)
        q = jax.ShapeDtypeStruct((4, 32, 8), jnp.float32)
        gradient = jax.grad(
            lambda q, k, v: jnp.sum(causal_flare(q, k, v, implementation="xla") ** 2), argnums=(0, 1, 2)
        )
        return jax.jit(gradient).lower(q, x, x).compile().memory_analysis().temp_size_in_bytes

    assert temporary_bytes(8192) < 4.5 * temporary_bytes(2048)

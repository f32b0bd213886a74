"""The mixer under jit, vmap, remat and hostile padding, and the memory of the chunked version."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels import flare_mixer
from kernels.flare_mixer.shapes import SHAPES
from tests.kernels.flare_mixer.cases import Case, expected, inputs, use_small_tiles
from tests.numerics import assert_close

FAST = ["xla", "pallas"]


@pytest.mark.parametrize("implementation", FAST)
def test_vmap_over_samples_is_the_batched_call(implementation):
    case = Case(masked=True)
    arguments = inputs(case)

    def one(k, v, mask):
        return flare_mixer(arguments["q"], k[None], v[None], mask=mask[None], implementation=implementation)[0]

    y = jax.jit(jax.vmap(one))(arguments["k"], arguments["v"], arguments["mask"])
    assert_close("y", y, expected(case)["y"], 1e-5)


def test_vmap_of_gradients_with_one_exponential(monkeypatch):
    """In bfloat16 the last kernel is two launches, of which the second completes the results of the first."""
    use_small_tiles(monkeypatch)
    arguments = inputs(Case(batch=4, points=37, latents=20, dtype="bfloat16"))

    def gradients(implementation):
        def loss(k, v):
            y = flare_mixer(arguments["q"], k, v, implementation=implementation)
            return jnp.sum(jnp.square(y.astype(jnp.float32)))

        pairs = (x.reshape(2, 2, *x.shape[1:]) for x in (arguments["k"], arguments["v"]))
        return jax.jit(jax.vmap(jax.grad(loss, argnums=(0, 1))))(*pairs)

    for name, one, other in zip(("dk", "dv"), gradients("pallas"), gradients("reference"), strict=True):
        assert_close(name, one.astype(jnp.float32), other.astype(jnp.float32), 3e-2)


def gradients_of_two_uses(mix):
    def loss(x):
        once = mix(x)
        return jnp.sum(jnp.sin(once) * mix(x | {"v": once}))

    return jax.jit(jax.grad(loss))(inputs(Case()))


@functools.cache
def gradients_of_two_uses_of_the_reference():
    return gradients_of_two_uses(lambda x: flare_mixer(**x, implementation="reference"))


@pytest.mark.parametrize("implementation", FAST)
def test_remat_and_sum_of_two_uses_give_the_same_gradient(implementation):
    mix = jax.checkpoint(lambda x: flare_mixer(**x, implementation=implementation))
    recomputed = gradients_of_two_uses(mix)
    for name, gradient in gradients_of_two_uses_of_the_reference().items():
        assert_close(name, recomputed[name], gradient, 1e-5)


@pytest.mark.parametrize("implementation", ["reference", *FAST])
def test_padding_never_leaks(implementation):
    arguments = inputs(Case(masked=True))
    mask = arguments["mask"]
    poisoned = {
        name: jnp.where(mask[:, :, None, None], x, jnp.nan) if name in "kv" else x for name, x in arguments.items()
    }

    @jax.jit
    def evaluate(x):
        def loss(floats):
            y = flare_mixer(**floats, mask=mask, implementation=implementation)
            return jnp.sum(y * y), y

        return jax.grad(loss, has_aux=True)({name: x[name] for name in "qkv"})

    gradients, y = evaluate(arguments)
    poisoned_gradients, poisoned_y = evaluate(poisoned)
    np.testing.assert_array_equal(y, poisoned_y)
    for name, gradient in gradients.items():
        np.testing.assert_array_equal(gradient, poisoned_gradients[name], err_msg=name)
    padding = ~np.asarray(mask)
    assert not np.any(np.asarray(y)[padding])
    assert not np.any(np.asarray(gradients["k"])[padding])
    assert not np.any(np.asarray(gradients["v"])[padding])


def test_default_masks_and_decode_operands_change_nothing():
    arguments = inputs(Case())

    @jax.jit
    def mixed(x):
        full = jnp.ones(x["k"].shape[:2], bool)
        return flare_mixer(**x), flare_mixer(**x, mask=full), flare_mixer(**x, q_decode=x["q"])

    plain, full, same = mixed(arguments)
    np.testing.assert_allclose(full, plain, atol=1e-6)
    np.testing.assert_allclose(same, plain, atol=1e-6)


def test_xla_never_holds_all_logits():
    points, heads, latents, width = 65_536, 8, 64, 8
    shapes = [(heads, latents, width), (1, points, heads, width), (1, points, heads, width)]
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]

    def loss(q, k, v):
        return jnp.sum(flare_mixer(q, k, v, implementation="xla") ** 2)

    compiled = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(*arguments).compile()
    all_logits = points * heads * latents * 4
    assert compiled.memory_analysis().temp_size_in_bytes < all_logits


def test_named_shapes_are_complete():
    assert {"elasticity", "darcy", "drivaerml_40k", "million_m128", "million_m2048"} <= SHAPES.keys()

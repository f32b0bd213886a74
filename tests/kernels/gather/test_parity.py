"""Every implementation against the reference: outputs and gradients, over shapes, masks, dtypes and large logits."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels import _scales, flarepp_mixer, gather
from kernels._checks import as_largest
from tests.kernels.gather.cases import (
    Case,
    assert_agrees,
    expected,
    inputs,
    outputs_and_gradients,
    use_small_tiles,
)
from tests.numerics import assert_close

FAST = ["xla", "pallas"]
FLOAT32 = [
    Case(points=5, latents=3, width=4, channels=0),
    Case(points=97, latents=40, width=24, channels=20, tiled=True),
    Case(channels=0, masked=True, points=70, latents=20, scale=0.3, tiled=True),
    Case(per_sample=True, latents=19, masked=True),
    Case(batch=1, heads=1, latents=20, width=128, channels=0, tiled=True),
]
LARGE_LOGITS = Case(logits=500.0, points=50, latents=20, masked=True, channels=0, tiled=True)
HALF = Case(dtype="bfloat16", points=51, width=16, channels=0, masked=True, tiled=True)


@pytest.fixture(autouse=True)
def small_tiles(request, monkeypatch):
    """Cut the work of tiled cases into small parts."""
    callspec = getattr(request.node, "callspec", None)
    if callspec is None or callspec.params.get("case", LARGE_LOGITS).tiled:
        use_small_tiles(monkeypatch)


@pytest.mark.parametrize("implementation", FAST)
@pytest.mark.parametrize("case", FLOAT32, ids=str)
def test_float32_agrees_with_reference(case, implementation):
    assert_agrees(case, implementation, ratio=1e-5)


@pytest.mark.parametrize("implementation", FAST)
def test_large_logits_stay_finite_and_accurate(implementation):
    # Float32 logits of 500 are themselves only known to 3e-5.
    assert_agrees(LARGE_LOGITS, implementation, ratio=5e-4)


@pytest.mark.parametrize("implementation", FAST)
def test_bfloat16_agrees_with_float32(implementation):
    assert_agrees(HALF, implementation, ratio=2e-2)


@pytest.mark.parametrize("implementation", ["reference", *FAST])
def test_padding_never_leaks(implementation):
    arguments = inputs(Case(masked=True, channels=0))
    q, k, mask = (arguments[name] for name in ("q", "k", "mask"))

    @jax.jit
    def evaluate(k):
        return jax.value_and_grad(lambda q, k: jnp.sum(gather(q, k, mask=mask, implementation=implementation)), (0, 1))(
            q, k
        )

    clean = evaluate(k)
    poisoned = evaluate(jnp.where(mask[:, :, None, None], k, jnp.nan))
    jax.tree.map(np.testing.assert_array_equal, clean, poisoned)
    assert not np.any(np.asarray(clean[1][1])[~np.asarray(mask)])


@pytest.mark.parametrize("implementation", FAST)
def test_bounds_of_keys_change_nothing_and_spare_looking_for_the_largest(implementation, monkeypatch):
    """Of the three calls of FLARE++; masked points hold what they like."""
    arguments = inputs(Case(masked=True, per_sample=True)) | {"k0": inputs(Case(points=37, width=8, logits=3.0))["k"]}
    mask = arguments.pop("mask")
    q, k, k0, v = (arguments[name] for name in ("q", "k", "k0", "v"))
    largest = jnp.max(jnp.linalg.norm(jnp.where(mask[:, :, None, None], k, 0), axis=-1))
    looked_at = []

    def evaluate(implementation: str, k: jax.Array, **options: object) -> dict:
        def y(q: jax.Array, k0: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
            return flarepp_mixer(
                q[0], q[1], jnp.full(2, 0.6), k0, k, v, scale=0.5, mask=mask, implementation=implementation, **options
            )

        @jax.jit
        def outputs(*operands: jax.Array) -> dict:
            z, pull_back = jax.vjp(y, *operands)
            return {"y": z, "gradients": pull_back(jnp.cos(jnp.arange(z.size, dtype=jnp.float32).reshape(z.shape)))}

        return outputs(q, k0, k, v)

    reference = evaluate("reference", k)
    original = _scales.point_exponent
    monkeypatch.setattr(_scales, "point_exponent", lambda x, *rest: looked_at.append(x) or original(x, *rest))
    poisoned = jnp.where(mask[:, :, None, None], k, 1e9)
    found = evaluate(implementation, poisoned, largest_keys=(3 * jnp.max(jnp.linalg.norm(k0, axis=-1)), float(largest)))
    assert not looked_at
    for name, value in jax.tree.flatten_with_path(reference)[0]:
        actual = jax.tree.flatten_with_path(found)[0]
        assert_close(f"{implementation} {name}", dict(actual)[name], value, 1e-5)


@pytest.mark.parametrize("case", [FLOAT32[1], FLOAT32[2]], ids=str)
def test_coarse_products_have_the_bits_of_tf32(case):
    found = outputs_and_gradients("pallas", inputs(case), case.scale, "default")
    for name, value in expected(replace(case, tiled=False)).items():
        assert_close(name, found[name], value, 2e-3)
        error = np.linalg.norm(found[name] - value) / np.linalg.norm(value)
        assert error > 2e-5, (name, error)


@pytest.mark.parametrize(
    ("largest", "message"), [(-1.0, "is -1.0; give"), (jnp.ones(2), r"has shape \(2,\); give one")]
)
def test_bounds_that_are_none_are_refused(largest, message):
    with pytest.raises(ValueError, match=f"largest_key {message}"):
        as_largest(largest)


def test_xla_never_holds_all_logits():
    points, heads, latents, width = 65_536, 8, 64, 8
    arguments = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((heads, latents, width), (1, points, heads, width))]
    gradient = jax.grad(lambda q, k: jnp.sum(gather(q, k, implementation="xla") ** 2), argnums=(0, 1))
    compiled = jax.jit(gradient).lower(*arguments).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < points * heads * latents * 4


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("dtype", "precision", "ratio"),
    [("float32", "highest", 1e-5), ("float32", "default", 2e-3), ("bfloat16", "highest", 2e-2)],
)
@pytest.mark.parametrize(
    "case",
    [
        Case(batch=2, points=972, heads=8, latents=64, width=8, channels=0),
        Case(batch=1, points=40_001, heads=8, latents=100, width=16, channels=0, per_sample=True),
        Case(batch=3, points=5001, heads=4, latents=256, width=32, channels=20, masked=True),
        Case(batch=1, points=5001, heads=2, latents=600, width=64, channels=64),
        Case(batch=1, points=3001, heads=2, latents=130, width=128, channels=0),
    ],
    ids=str,
)
def test_default_launches_agree_on_gpu(case, dtype, precision, ratio):
    assert_agrees(replace(case, dtype=dtype, precision=precision), "pallas", ratio=ratio)

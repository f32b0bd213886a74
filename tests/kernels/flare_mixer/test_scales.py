"""Float32 operands of any size: the powers of two that bring them into the range of float16 parts.

The kernels for few points, "compact", find them on their own; for the others, "general", XLA does.
"""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels import _scales, flare_mixer
from kernels._tile_products import Products
from kernels.flare_mixer import table
from tests.kernels.flare_mixer.cases import Case, inputs
from tests.numerics import assert_close, cotangent

CASE = Case(batch=2, points=33, latents=9)


@pytest.fixture(params=["compact", "general"])
def kernels(request, monkeypatch) -> str:
    """Return which kernels run."""
    rows = [
        replace(row, blocks=replace(row.blocks, compact=row.blocks.compact and request.param == "compact"))
        for row in table.OPERATION.launches
        if row.implementation == "pallas"
    ]
    monkeypatch.setattr(table, "OPERATION", replace(table.OPERATION, launches=tuple(rows)))
    return request.param


@functools.cache
def program(kernels: str):
    """Return the jitted function of (q, k, v, factor) to y and the gradients for a random cotangent times `factor`."""
    implementation = "reference" if kernels == "reference" else "pallas"

    @jax.jit
    def run(floats: dict, factor: float) -> dict:
        y, pull_back = jax.vjp(lambda f: flare_mixer(**f, implementation=implementation), floats)
        (found,) = pull_back(factor * cotangent(0, y.shape))
        return {"y": y} | found

    return run


def gradients(kernels: str, arguments: dict, factor: float) -> dict:
    """Return y and the gradients for a cotangent multiplied by `factor`."""
    found = program(kernels)({name: arguments[name] for name in "qkv"}, factor)
    return {name: np.asarray(x) for name, x in found.items()}


@pytest.mark.parametrize(
    ("q", "k", "v", "dy"), [(1e4, 1e-4, 1e-8, 1e6), (1e-6, 1e6, 1e9, 1e-12), (1.0, 1.0, 1e-12, 1e-15)]
)
def test_sizes_of_operands_do_not_matter(q, k, v, dy, kernels):
    arguments = inputs(CASE)
    scaled = {"q": q * arguments["q"], "k": k * arguments["k"], "v": v * arguments["v"]}
    expected = gradients("reference", scaled, dy)
    for name, value in gradients(kernels, scaled, dy).items():
        # In units of the expected size, for the squares of the smallest numbers are not float32.
        size = float(np.max(np.abs(expected[name])))
        assert_close(name, value / size, expected[name] / size, 1e-5)


def test_heads_and_samples_have_scales_of_their_own(kernels):
    arguments = inputs(CASE)
    arguments["v"] = arguments["v"] * jnp.array([[1e-9, 1.0], [1e5, 1e-3]])[:, None, :, None]
    expected = gradients("reference", arguments, 1.0)
    actual = gradients(kernels, arguments, 1.0)
    for sample in range(2):
        for head in range(2):
            for name in ("y", "k", "v"):
                pair = (x[name][sample, :, head] for x in (actual, expected))
                assert_close(f"{name} of head {head}, sample {sample}", *pair, 1e-5)


def test_zeros_stay_zeros_and_nan_stays_nan(kernels):
    arguments = inputs(CASE)
    for x in gradients(kernels, arguments, 0.0).values():
        assert np.isfinite(x).all()
    assert not np.any(gradients(kernels, arguments, 0.0)["k"])
    assert not np.any(gradients(kernels, arguments | {"v": 0 * arguments["v"]}, 1.0)["y"])
    arguments["v"] = arguments["v"].at[0, 3, 1, 2].set(jnp.nan)
    y = gradients(kernels, arguments, 1.0)["y"]
    assert np.isnan(y[0, :, 1, 2]).all()
    assert np.isfinite(y[0, :, 0]).all()


@pytest.mark.parametrize(("q", "k"), [(0.0, 0.0), (0.0, 1e-6), (1e-20, 1e-20)])
def test_logits_of_nothing_give_equal_weights(q, k, kernels):
    """The factor of such logits is no number of float32, and ragged tiles have hidden ones, minus infinity."""
    arguments = inputs(CASE)
    arguments |= {"q": q * arguments["q"], "k": k * arguments["k"]}
    expected = gradients("reference", arguments, 1.0)
    for name, value in gradients(kernels, arguments, 1.0).items():
        assert_close(name, value, expected[name], 1e-5)


def sizes(largest: float) -> np.ndarray:
    """Return `[2, 33, 3, 5]` with entries of at most this size, the largest of each sample and head at random."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-0.9, 0.9, (2, 33, 3, 5)).astype(np.float32)
    for sample in range(2):
        for head in range(3):
            x[sample, rng.integers(33), head, rng.integers(5)] = rng.choice([-1.0, 1.0]) * 2.0**head
    return x * np.float32(largest)


@pytest.mark.parametrize("largest", [1.0, 3e30, 1e-25, 0.0, np.nan])
@pytest.mark.parametrize("masked", [False, True])
def test_exponents_of_points_bring_the_largest_entry_of_a_head_below_a_power_of_two(largest, masked):
    x = sizes(largest)
    mask = np.arange(33) % 3 > 0 if masked else np.ones(33, bool)
    exponents = _scales.point_exponent(jnp.asarray(x), jnp.asarray(np.stack([mask] * 2)) if masked else None)
    expected = np.abs(x[:, mask]).max(axis=(1, 3))
    _, powers = np.frexp(expected)
    limit = np.where(np.isnan(expected), -100, np.where(expected == 0, 100, 14 - powers))
    np.testing.assert_array_equal(exponents, np.clip(limit, -100, 100))


def test_largest_entries_are_found_in_two_reductions_the_first_of_which_is_of_points():
    """In one, XLA writes and reads a number for each point and head beside what it has to read."""
    specification = jax.ShapeDtypeStruct((1, 1000, 8, 16), jnp.float32)
    program = jax.jit(lambda x: _scales.point_exponent(x, None)).lower(specification).compile().as_text()
    assert "f32[1,8,16]" in program or "f32[8,16]" in program


def test_parts_hold_22_bits_of_the_largest():
    x = jax.random.normal(jax.random.key(1), (64, 64)) * 10.0 ** jax.random.uniform(
        jax.random.key(2), (64, 1), minval=-4
    )
    exponent = _scales.latent_exponent(x[None])
    parts = Products(compiled=False).split(_scales.scaled(x[None], exponent)[0])
    assert [part.dtype for part in parts] == [jnp.float16] * 2
    back = sum(np.asarray(part, np.float64) for part in parts) / 2.0 ** int(exponent[0, 0])
    np.testing.assert_allclose(back, np.asarray(x, np.float64), rtol=2.0**-22, atol=2.0**-38 * float(jnp.abs(x).max()))
    product = Products(compiled=False).multiply(parts, parts, (1, 1)) / 4.0 ** int(exponent[0, 0])
    exact = np.asarray(x, np.float64) @ np.asarray(x, np.float64).T
    assert_close("product", product, exact, 3e-7)


@pytest.mark.parametrize(
    ("exponent", "value"), [(0, 1.0), (-126, 2.0**-126), (127, 2.0**127), (-200, 0.0), (200, np.inf)]
)
def test_powers_of_two_are_exact(exponent, value):
    assert float(_scales.power_of_two(jnp.int32(exponent))) == value


@pytest.mark.parametrize("channels", [3, 16, 100])
@pytest.mark.parametrize("size", [1e-12, 1.0, 1e12])
def test_slopes_keep_all_bits_that_their_bound_leaves(channels, size):
    def exponents(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return those of the slopes by rows of the latents' side, and by entries; points are as large as latents."""
        entries = _scales.latent_exponent(rows)
        of_rows = entries + _scales.row_exponent(rows, entries)
        by_entries = _scales.slope_exponent(channels, 2 * entries, 2 * entries)
        return _scales.slope_exponent(channels, of_rows, of_rows, of_rows=True), by_entries

    # A gradient is two differences of two products of value rows, which are longest where all entries are largest.
    equal, _ = exponents(jnp.full((1, 1, 5, channels), size))
    scaled = 4 * channels * float(size) ** 2 * 2.0 ** float(equal[0, 0])
    assert 2.0 ** (_scales.LARGEST_EXPONENT - 4) < scaled <= 2.0**_scales.LARGEST_EXPONENT

    # Of rows with one large entry each the products are smaller.
    found, by_entries = exponents(size * jnp.eye(channels)[None, None])
    assert found[0, 0] - by_entries[0, 0] == (channels - 1).bit_length() // 2

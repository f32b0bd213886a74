"""Polynomials in the place of exponentials: their errors, what they make of the ends of the range, and the kernels."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels import _exponentials, _target, flare_mixer
from kernels._layout import Layout
from kernels._target import Target
from kernels._tile_products import Products
from kernels._tiling import Blocks
from kernels.flare_mixer import table
from kernels.flare_mixer.operands import Operands
from kernels.flare_mixer.pallas import PallasBackend
from tests.kernels.flare_mixer.cases import Case, inputs, outputs_and_gradients
from tests.numerics import rms_ratio

BLOCKS = Blocks(points=16, latents=16, programs=12, warps=4, polynomial_every=4)


@pytest.fixture
def polynomials(monkeypatch):
    """Let every kernel that can take polynomials take them, in small tiles."""
    blocks = table.KernelBlocks(BLOCKS, BLOCKS, BLOCKS, BLOCKS)
    monkeypatch.setattr(table, "OPERATION", table.OPERATION.with_launch(blocks))


def evaluate(x: np.ndarray) -> np.ndarray:
    return np.asarray(jax.jit(_exponentials.polynomial_exp2)(x.astype(np.float32)), np.float64)


def test_errors_of_the_polynomial_over_all_weights():
    x = np.linspace(-126.0, 0.0, 1_000_001, dtype=np.float32)
    error = evaluate(x) / np.exp2(x.astype(np.float64)) - 1.0
    assert np.max(np.abs(error)) < 1.03e-4
    assert np.sqrt(np.mean(error**2)) < 7.0e-5
    # Of a sum of many weights, a quarter of which are polynomials, it is a quarter of this.
    assert abs(np.mean(error)) < 4.5e-5


def test_powers_of_integers_are_exact_and_those_without_weight_are_zero():
    integers = np.arange(-126.0, 128.0)
    np.testing.assert_array_equal(evaluate(integers), np.exp2(integers))
    np.testing.assert_array_equal(evaluate(np.array([-127.0, -200.0, -1e30, -np.inf])), 0.0)
    assert evaluate(np.array([np.nan])) == np.finfo(np.float32).max
    below = evaluate(np.linspace(-127.0, -126.0, 1001))
    assert np.all((below >= 0.0) & (below <= 2.0**-126))


def run_ptx(text: str, x: np.ndarray) -> list[np.ndarray]:
    """Return what instructions as `_exponentials.instructions` writes them make of their first input, in numpy."""
    values = {"$4": x.astype(np.float32)}

    def read(name: str) -> np.ndarray:
        if name.startswith("0f"):
            return np.uint32(int(name[2:], 16)).view(np.float32)
        return values[name] if name.startswith("$") or name.isalpha() else np.int32(int(name))

    with np.errstate(all="ignore"):
        for line in re.findall(r"[^;{}]+;", text):
            name, *operands = re.split(r"[ ,;]+", line.strip(" ;"))
            if name in (".reg", "ex2.approx.ftz.f32"):
                continue
            target, *read_from = operands
            arguments = [read(x) for x in read_from]
            match name:
                case "max.NaN.f32":
                    result = np.maximum(*arguments)
                case "min.NaN.f32":
                    result = np.minimum(*arguments)
                case "add.f32":
                    result = arguments[0] + arguments[1]
                case "sub.f32":
                    result = arguments[0] - arguments[1]
                case "mov.f32":
                    result = np.broadcast_to(arguments[0], x.shape)
                case "mov.b32":
                    kind = np.float32 if target.startswith("$") else np.int32
                    result = arguments[0].view(kind)
                case "fma.rn.f32":
                    a, b, c = (y.astype(np.float64) for y in arguments)
                    result = (a * b + c).astype(np.float32)
                case "shl.b32":
                    result = arguments[0] << arguments[1]
                case "add.s32":
                    result = arguments[0] + arguments[1]
                case _:
                    raise AssertionError(f"an unknown instruction, {name}")
            if result.dtype == np.float32:  # a GPU has one NaN
                result = np.where(np.isnan(result), np.uint32(0x7FFFFFFF).view(np.float32), result)
            values[target] = result
    return values["$0"]


@pytest.mark.parametrize("limited", [False, True])
def test_the_instructions_compute_what_the_plain_form_does(limited):
    x = np.concatenate(
        [np.linspace(-130.0, 14.0, 100_001), [-np.inf, np.nan, -1e30, 0.0, -126.5, -0.5, 0.5, 1.5, 127.0]]
    )
    beyond = np.array([127.5, 128.0, 512.0, 1e30, np.inf])
    x = np.concatenate([x, beyond]) if limited else x
    plain = np.asarray(jax.jit(_exponentials.polynomial_exp2, static_argnums=1)(x.astype(np.float32), limited))
    found = run_ptx(_exponentials.instructions(4, limited), x)
    np.testing.assert_allclose(found, plain, rtol=3e-7, atol=2.0**-126)
    np.testing.assert_array_equal(found[plain == 0.0], 0.0)
    if limited:
        np.testing.assert_array_equal(found[-len(beyond) :], np.float32(2.0**127))


@pytest.mark.parametrize("every", [2, 4, 8])
def test_one_exponential_of_so_many_is_a_polynomial(every):
    text = _exponentials.instructions(every)
    assert text.count("ex2.approx.ftz.f32") == every - 1
    assert {int(x) for x in re.findall(r"\$(\d+)", text)} == set(range(2 * every))
    logits = jnp.asarray(np.random.default_rng(0).uniform(-20.0, 0.0, (32, 64)).astype(np.float32))
    mixed = np.asarray(Products(compiled=False, polynomial_every=every).weights_of(logits))
    differs = mixed != np.asarray(jnp.exp2(logits))
    assert not differs[:, np.arange(64) % every != 0].any()
    assert differs[:, ::every].mean() > 0.95


@pytest.mark.parametrize("options", [{}, {"masked": True}, {"logits": 200.0}, {"points": 100, "latents": 40}], ids=str)
def test_results_are_as_exact_as_bfloat16_with_exponentials(options, polynomials, monkeypatch):
    case = Case(dtype="bfloat16", **options)
    arguments = inputs(case)
    exact = {name: x if name == "mask" else x.astype(jnp.float32) for name, x in arguments.items()}
    expected = outputs_and_gradients("reference", exact, case.scale)
    found = outputs_and_gradients("pallas", arguments, case.scale)
    plain = replace(BLOCKS, polynomial_every=0)
    monkeypatch.setattr(table, "OPERATION", table.OPERATION.with_launch(table.KernelBlocks(*[plain] * 4)))
    before = outputs_and_gradients("pallas", arguments, case.scale)
    assert any(np.any(found[name] != before[name]) for name in expected), "no polynomial took part"
    for name, value in expected.items():
        assert rms_ratio(found[name], value) <= 1.03 * rms_ratio(before[name], value) + 1e-6, name


@pytest.mark.parametrize(("latents", "every"), [(39, 0), (40, 4), (41, 4)])
def test_only_heads_of_many_latents_take_polynomials(latents, every):
    q, k = jnp.zeros((2, latents, 16), jnp.bfloat16), jnp.zeros((1, 50, 2, 16), jnp.bfloat16)
    blocks = replace(BLOCKS, polynomial_latents=40)
    layout = Layout.create(blocks, q, k, None, Target("cpu"), all_latents=True)
    assert layout.products.polynomial_every == every


def test_masked_points_reach_nothing_and_nan_goes_on(polynomials):
    arguments = inputs(Case(dtype="bfloat16", points=40, latents=20, masked=True, batch=1))
    arguments["mask"] = jnp.arange(40)[None] != 4
    mix = jax.jit(lambda q, k, v, mask: flare_mixer(q, k, v, mask=mask, implementation="pallas"))
    y = mix(**arguments)
    hidden = arguments | {name: arguments[name].at[:, 4].set(jnp.nan) for name in ("k", "v")}
    np.testing.assert_array_equal(np.asarray(mix(**hidden), np.float32), np.asarray(y, np.float32))
    # In a column of the scatter, and in one of the gather, that are polynomials.
    assert np.isnan(np.asarray(mix(**arguments | {"q": arguments["q"].at[:, 16].set(jnp.nan)}), np.float32)).any()
    assert np.isnan(np.asarray(mix(**arguments | {"k": arguments["k"].at[:, 16].set(jnp.nan)}), np.float32)).any()


def test_float32_has_no_polynomials(polynomials):
    arguments = inputs(Case())
    with pytest.raises(ValueError, match="polynomial_every=4 has keys of float32; give it 0"):
        flare_mixer(**arguments, implementation="pallas")


def test_a_gpu_takes_the_instructions(polynomials):
    q, k = jax.ShapeDtypeStruct((2, 40, 16), jnp.bfloat16), jax.ShapeDtypeStruct((1, 500, 2, 16), jnp.bfloat16)
    target = Target("cuda", (9, 0))
    backend = PallasBackend(table.KernelBlocks(BLOCKS, BLOCKS, BLOCKS, BLOCKS), target)

    def forward(q: jax.Array, k: jax.Array) -> tuple:
        operands = Operands(q, k, k)
        y, statistics = backend.scatter(operands, backend.gather(operands, scale=1.0), scale=1.0)
        return y, backend.latent_gradient(operands, y, statistics, scale=1.0)

    with _target._outside_mesh(target):
        text = jax.jit(forward).trace(q, k).lower(lowering_platforms=("cuda",)).as_text()
    # Of the gather, the scatter and the latents' gradient, each of which has a loop and a ragged tile.
    assert text.count("max.NaN.f32 x, $4") >= 3
    assert "math.exp2" not in text

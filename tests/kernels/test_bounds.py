"""A bound of the logits in the place of the running maximum: where it holds, at its edge, and where it does not."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels import flare_mixer, gather
from kernels._bounds import WIDEST_RANGE, WIDEST_RANGE_OF_PARTS, logit_bound
from kernels._tiles import LOG2_E
from kernels._tiling import Blocks
from kernels.flare_mixer import table as mixer_table
from kernels.gather import table as gather_table
from tests.numerics import assert_close

BLOCKS = Blocks(points=16, latents=16, programs=12, warps=4, bounded=True)
WIDEST = {"float32": WIDEST_RANGE_OF_PARTS, "bfloat16": WIDEST_RANGE}
POINTS, LATENTS, WIDTH = 37, 20, 8


@pytest.fixture(autouse=True)
def bounded(monkeypatch):
    """Let the forward kernels take the bound that is given, and both softmaxes of the mixer share an exponential."""
    last = replace(BLOCKS, one_exponential=True)
    for table, launches in (
        (gather_table, gather_table.KernelBlocks(BLOCKS, BLOCKS)),
        (mixer_table, mixer_table.KernelBlocks(BLOCKS, BLOCKS, BLOCKS, last)),
    ):
        monkeypatch.setattr(table, "OPERATION", table.OPERATION.with_launch(launches))


def operands(dtype: str, ranges: list[float]) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return q `[H, M, D]`, k and v; the bound of head h spans ranges[h] powers of two, and some logits reach it."""
    rng = np.random.default_rng(0)
    q, k = (rng.standard_normal(shape) for shape in ((len(ranges), LATENTS, WIDTH), (1, POINTS, len(ranges), WIDTH)))
    q, k = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (q, k))
    k[0, 3], k[0, 5] = q[:, 2], -q[:, 4]
    q = q * (np.array(ranges) / (2 * LOG2_E))[:, None, None]
    v = rng.standard_normal(k.shape)
    return tuple(jnp.asarray(x.astype(jnp.dtype(dtype))) for x in (q, k, v))


def longest(k: jax.Array) -> float:
    """Return the norm of the longest key."""
    return float(jnp.max(jnp.linalg.norm(k.astype(jnp.float32), axis=-1)))


def results(function, arguments: tuple) -> dict[str, np.ndarray]:
    """Return output and gradients of a function of the arguments."""

    @jax.jit
    def run(arguments: tuple) -> tuple:
        y, pull_back = jax.vjp(function, *arguments)
        return y, *pull_back(jax.random.normal(jax.random.key(0), y.shape).astype(jnp.bfloat16).astype(y.dtype))

    return {name: np.asarray(x, np.float64) for name, x in zip(("y", "dq", "dk", "dv"), run(arguments), strict=False)}


@pytest.mark.parametrize("dtype", WIDEST)
def test_heads_take_the_bound_up_to_its_widest_range(dtype):
    q, k, _ = operands(dtype, [0.98 * WIDEST[dtype], 1.02 * WIDEST[dtype]])
    bound = logit_bound(q, jnp.asarray(longest(k)), 1.0)[0, :, 0]
    assert np.isinf(bound).tolist() == [False, True]
    logits = LOG2_E * jnp.einsum("hmd,bnhd->bhmn", q.astype(jnp.float32), k.astype(jnp.float32), precision="highest")
    assert float(jnp.max(logits[0, 0])) == pytest.approx(float(bound[0]), rel=1e-2)
    assert float(jnp.max(jnp.abs(logits[0, 0]))) <= float(bound[0])


@pytest.mark.parametrize("call", [gather, flare_mixer], ids=lambda x: x.__name__)
@pytest.mark.parametrize(("dtype", "ratio"), [("float32", 1e-5), ("bfloat16", 3e-2)])
def test_both_sides_of_the_edge_are_exact(call, dtype, ratio):
    """One head is within the range, one beyond it, and one far beyond, where weights would vanish."""
    arguments = operands(dtype, [0.98 * WIDEST[dtype], 1.02 * WIDEST[dtype], 400.0])
    exact = tuple(x.astype(jnp.float32) for x in arguments)
    expected = results(lambda *x: call(*x, implementation="reference"), exact)
    largest = longest(arguments[1])
    actual = results(lambda *x: call(*x, largest_key=largest, implementation="pallas"), arguments)
    # Float32 logits of hundreds are themselves only known to 1e-5.
    for name, value in expected.items():
        assert_close(name, actual[name], value, 20 * ratio if dtype == "float32" else ratio)
    near = {name: x[..., 0, :] if name in ("dk", "dv") else x for name, x in expected.items()}
    for name in ("dk", "dv"):
        assert_close(f"{name} of the head within", actual[name][..., 0, :], near[name], ratio)


@pytest.mark.parametrize("call", [gather, flare_mixer], ids=lambda x: x.__name__)
def test_only_a_bound_that_is_given_is_taken(call):
    q, k, v = operands("float32", [4.0])

    def launches(**options: float) -> int:
        return str(jax.make_jaxpr(lambda *x: call(*x, implementation="pallas", **options))(q, k, v)).count(
            "grid_mapping"
        )

    # A second launch of each forward kernel serves the heads beyond the bound.
    assert launches(largest_key=longest(k)) == 2 * launches() > 0


def test_masked_points_hold_what_they_like_beside_a_bound():
    """Nor does anything come from a sample that is all masked."""
    q, k, v = operands("float32", [4.0])
    mask = jnp.arange(POINTS)[None] != 7
    hidden = k.at[0, 7].set(jnp.nan)
    options = {"largest_key": longest(k), "scale": 1.0}
    read = jax.jit(lambda k, mask, name: gather(q, k, v, mask=mask, implementation=name, **options), static_argnums=2)
    assert_close("z", read(hidden, mask, "pallas"), read(hidden, mask, "reference"), 1e-5)
    assert not np.any(read(k, jnp.zeros_like(mask), "pallas"))

"""References of softmaxes that are held, and parts that lie side by side, against the definition."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels import flare_mixer
from kernels._held import is_close
from kernels._implementation import Request
from kernels._tiling import Blocks
from kernels.flare_mixer import pallas_scatter, table
from kernels.gather import pallas_forward
from kernels.gather import table as gather_table
from tests.kernels.flare_mixer.cases import Case, evaluator, inputs, outputs_and_gradients
from tests.numerics import assert_close

BLOCKS = Blocks(points=16, latents=16, programs=12, warps=4)
RATIO = {"float32": 2e-6, "bfloat16": 3e-2}


def launches(dtype: str, changed: bool = True) -> table.KernelBlocks:
    """Return launches in small tiles; `changed` ones of bfloat16 are held, those of float32 joined."""
    if dtype == "bfloat16":
        blocks = replace(BLOCKS, polynomial_every=4)
        forward = replace(blocks, held=changed)
        return table.KernelBlocks(forward, forward, blocks, replace(BLOCKS, one_exponential=True, group=2))
    blocks = replace(BLOCKS, joined=changed)
    return table.KernelBlocks(blocks, blocks, blocks, replace(blocks, one_exponential=True))


def take(monkeypatch, *arguments) -> None:
    """Let the mixer take `launches` of these arguments."""
    monkeypatch.setattr(table, "OPERATION", table.OPERATION.with_launch(launches(*arguments)))


def compare_with_definition(arguments: dict[str, jax.Array], ratio: float) -> None:
    """Compare outputs and gradients with those of the reference in float32."""
    actual = outputs_and_gradients("pallas", arguments, 1.0)
    exact = {name: x if name == "mask" else x.astype(jnp.float32) for name, x in arguments.items()}
    for name, value in outputs_and_gradients("reference", exact, 1.0).items():
        assert_close(name, actual[name], value, ratio)


CASES = [
    Case(batch=1, points=64, latents=32, width=16, per_sample=True),
    Case(points=50, latents=20, masked=True),
    Case(batch=1, points=33, heads=1, latents=5, decode_width=8),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_float32_agrees_with_reference(case, monkeypatch):
    take(monkeypatch, "float32")
    compare_with_definition(inputs(case), RATIO["float32"])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bfloat16_agrees_with_float32(case, monkeypatch):
    take(monkeypatch, "bfloat16")
    compare_with_definition(inputs(replace(case, dtype="bfloat16")), RATIO["bfloat16"])


def record_heads_within(monkeypatch) -> list[np.ndarray]:
    """Return the list to which each kernel that holds a reference will add which heads were within range."""
    found = []

    def recorded(mass):
        close = is_close(mass)
        return jax.pure_callback(lambda x: found.append(np.asarray(x)[..., 0]) or x, close, close)

    for module in (pallas_scatter, pallas_forward):
        monkeypatch.setattr(module, "is_close", recorded)
    return found


def test_heads_out_of_range_are_run_again_beside_heads_within(monkeypatch):
    take(monkeypatch, "bfloat16")
    found = record_heads_within(monkeypatch)
    # Sizes of no other test, so that nothing that is traced already is taken.
    arguments = inputs(Case(batch=1, points=51, latents=20, dtype="bfloat16", logits=4.0))
    arguments["q"] = arguments["q"] * jnp.array([1.0, 120.0], jnp.bfloat16)[:, None, None]
    compare_with_definition(arguments, 1e-1)
    assert [x.tolist() for x in found] == [[[True, False]]] * 2  # of the gather and of the scatter


@pytest.mark.parametrize("points", [34, 49])
def test_a_ragged_tile_alone_in_its_split_is_within_range(points, monkeypatch):
    """The last split has that tile only, after others or as the first one with a whole tile."""
    take(monkeypatch, "bfloat16")
    found = record_heads_within(monkeypatch)
    case = Case(batch=1, points=points, latents=20, dtype="bfloat16", logits=4.0)
    compare_with_definition(inputs(case), RATIO["bfloat16"])
    assert [x.tolist() for x in found] == [[[True, True]]] * 2


def test_a_polynomial_far_beyond_the_reference_is_out_of_range(monkeypatch):
    """Where nothing limits it, 2 to the power of 512 has the bits of 1."""
    take(monkeypatch, "bfloat16")
    arguments = inputs(Case(batch=1, points=50, latents=20, dtype="bfloat16"))
    arguments["q"] = arguments["q"].at[..., 0].set(1.0)
    arguments["k"] = arguments["k"].at[..., 0].set(0.0).at[:, 36].set(0.0).at[:, 36, :, 0].set(356.0)
    y = flare_mixer(**arguments, implementation="pallas").astype(jnp.float32)
    value = arguments["v"][:, 36:37].astype(jnp.float32)
    assert_close("of all latents the value of that point", y, jnp.broadcast_to(value, y.shape), 1e-2)


@pytest.mark.parametrize("dtype", RATIO)
def test_one_point_has_its_own_value(dtype, monkeypatch):
    take(monkeypatch, dtype)
    arguments = inputs(Case(points=1, latents=20, dtype=dtype))
    y = flare_mixer(**arguments, implementation="pallas")
    assert_close("y", y.astype(jnp.float32), arguments["v"].astype(jnp.float32), RATIO[dtype] / 3)


def test_masses_out_of_range_are_not_close():
    mass = jnp.ones((1, 5, 3)).at[0, 1, 2].set(2.0**-9).at[0, 2, 0].set(jnp.inf).at[0, 3, 1].set(jnp.nan)
    mass = mass.at[0, 4, 1].set(2.0**-61)
    np.testing.assert_array_equal(is_close(mass)[0, :, 0], [True, True, False, False, False])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_not_finite_reaches_as_far_as_with_running_maxima(dtype, monkeypatch):
    """Of the latents 16 and of the points 16 an exponential is a polynomial, of the points 37 none."""
    runs = {}
    for changed in (True, False):
        take(monkeypatch, dtype, changed)
        runs[changed] = evaluator("pallas", 1.0)
        runs[changed](inputs(Case(batch=1, points=40, latents=20, dtype=dtype)))  # is traced with these launches
    plain = inputs(Case(batch=1, points=40, latents=20, dtype=dtype))
    for name, at in (("q", 16), ("q", 17), ("k", 16), ("k", 37), ("v", 16)):
        for value in (jnp.nan, jnp.inf, -jnp.inf):
            x = plain[name]
            arguments = plain | {name: x.at[:, at].set(value) if value != value else x.at[:, at, ..., 3].set(value)}
            found, expected = (runs[changed](arguments) for changed in (True, False))
            for output in expected:
                finite = [np.isfinite(np.asarray(y[output], np.float32)) for y in (found, expected)]
                np.testing.assert_array_equal(*finite, err_msg=f"{output} of {name}[{at}] = {value}")
            if value != value:
                # A latent without a value, or all of them, reach every point.
                assert np.isnan(np.asarray(found["y"], np.float32)).all()


def test_vmap_over_samples_is_the_batched_call(monkeypatch):
    """One head is within range, one is run again."""
    take(monkeypatch, "bfloat16")
    arguments = inputs(Case(points=32, latents=16, dtype="bfloat16"))
    q = arguments["q"] * jnp.array([1.0, 60.0], jnp.bfloat16)[:, None, None]

    def loss(k, v):
        return jnp.sum(jnp.square(flare_mixer(q, k, v, implementation="pallas").astype(jnp.float32)))

    gradients = jax.grad(loss, argnums=(0, 1))
    each = jax.jit(jax.vmap(gradients))(arguments["k"][:, None], arguments["v"][:, None])
    whole = jax.jit(gradients)(arguments["k"], arguments["v"])
    for name, one, other in zip(("dk", "dv"), each, whole, strict=True):
        assert_close(name, one[:, 0].astype(jnp.float32), other.astype(jnp.float32), 1e-3)


def test_launches_that_no_kernel_serves_say_so():
    held = replace(BLOCKS, held=True)
    for gradients in ((held, BLOCKS), (BLOCKS, held)):
        with pytest.raises(ValueError, match="give them held=False, for they have no maximum to find"):
            table.KernelBlocks(BLOCKS, BLOCKS, *gradients)
    with pytest.raises(ValueError, match="give compact ones held=False and joined=False"):
        table.KernelBlocks(BLOCKS, replace(BLOCKS, joined=True), BLOCKS, BLOCKS, compact=True)
    with pytest.raises(ValueError, match="give them held=False and joined=False"):
        gather_table.KernelBlocks(BLOCKS, replace(BLOCKS, joined=True))


@pytest.mark.parametrize("kernel", ["gather", "scatter"])
def test_softmaxes_of_float32_are_not_held(kernel, monkeypatch):
    blocks = replace(launches("float32"), **{kernel: replace(BLOCKS, held=True)})
    monkeypatch.setattr(table, "OPERATION", table.OPERATION.with_launch(blocks))
    with pytest.raises(ValueError, match=f"a {kernel} with held=True has keys of float32; give it held=False"):
        flare_mixer(**inputs(Case()), implementation="pallas")


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "ratio"), [("float32", 2e-5), ("bfloat16", 3e-2)])
@pytest.mark.parametrize(
    "case",
    [
        Case(batch=1, points=65_537, latents=130, width=16),
        Case(points=66_000, latents=300, width=16, masked=True),
        Case(points=70_001, latents=64, per_sample=True),
    ],
    ids=str,
)
def test_default_launches_for_many_points_agree_on_gpu(case, dtype, ratio):
    """One head is within range, one is run again."""
    blocks = table.OPERATION.launch_for("pallas", Request(dtype, case.width, case.points)).blocks
    assert blocks.operand_gradients.joined if dtype == "float32" else blocks.gather.held and blocks.scatter.held
    arguments = inputs(replace(case, dtype=dtype))
    arguments["q"] = arguments["q"] * jnp.array([1.0, 15.0], dtype)[:, None, None]
    compare_with_definition(arguments, ratio)

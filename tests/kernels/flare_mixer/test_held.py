"""References of softmaxes that are held, and parts that lie side by side, against the definition."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from kernels import flare_mixer
from kernels._held import is_close
from kernels._tiling import Blocks
from kernels.flare_mixer import table
from tests.kernels.flare_mixer.cases import Case, inputs, outputs_and_gradients
from tests.numerics import assert_close

_BLOCKS = Blocks(points=16, latents=16, programs=12, warps=4)


def _take(monkeypatch, held: bool, joined: bool) -> None:
    blocks = replace(_BLOCKS, joined=joined)
    forward, pairs = replace(blocks, held=held), replace(blocks, held=held and joined, one_exponential=True)
    launches = table.KernelBlocks(forward, forward, blocks, pairs)
    monkeypatch.setattr(table, "OPERATION", table.OPERATION.with_launch(launches))


@pytest.mark.parametrize(("held", "joined"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize(
    "case",
    [
        Case(points=50, latents=20),
        Case(points=64, latents=32, width=16),
        Case(points=50, latents=20, masked=True),
        Case(points=50, latents=20, decode_width=8),
        Case(points=70, latents=20, logits=400.0),
    ],
    ids=str,
)
def test_float32_agrees_with_reference(case, held, joined, monkeypatch):
    _take(monkeypatch, held, joined)
    arguments = inputs(case)
    actual = outputs_and_gradients("pallas", arguments, case.scale)
    ratio = 2e-6 if case.logits < 100 else 2e-5
    for name, value in outputs_and_gradients("reference", arguments, case.scale).items():
        assert_close(name, actual[name], value, ratio)


@pytest.mark.parametrize("logits", [8.0, 400.0])
@pytest.mark.parametrize("masked", [True, False])
def test_bfloat16_agrees_with_float32(masked, logits, monkeypatch):
    _take(monkeypatch, held=True, joined=False)
    arguments = inputs(Case(points=50, latents=20, masked=masked, dtype="bfloat16", logits=logits))
    actual = outputs_and_gradients("pallas", arguments, 1.0)
    exact = {name: x if name == "mask" else x.astype(jnp.float32) for name, x in arguments.items()}
    for name, value in outputs_and_gradients("reference", exact, 1.0).items():
        assert_close(name, actual[name], value, 3e-2)


def test_masses_out_of_range_are_not_close():
    mass = jnp.ones((1, 4, 3)).at[0, 1, 2].set(2.0**-9).at[0, 2, 0].set(jnp.inf).at[0, 3, 1].set(jnp.nan)
    np.testing.assert_array_equal(is_close(mass, jnp.float32)[0, :, 0], [True, False, False, False])
    np.testing.assert_array_equal(is_close(mass, jnp.bfloat16)[0, :, 0], [True, True, False, False])


@pytest.mark.parametrize(("name", "at"), [("q", 17), ("q", 16), ("k", 16), ("k", 37)])
def test_nan_goes_on(name, at, monkeypatch):
    """Of the latents 16 and of the points 16 an exponential is a polynomial."""
    forward = replace(_BLOCKS, held=True, polynomial_every=4)
    blocks = table.KernelBlocks(forward, forward, replace(forward, held=False), replace(_BLOCKS, one_exponential=True))
    monkeypatch.setattr(table, "OPERATION", table.OPERATION.with_launch(blocks))
    arguments = inputs(Case(batch=1, points=40, latents=20, dtype="bfloat16"))
    arguments[name] = arguments[name].at[:, at].set(jnp.nan)
    values = flare_mixer(**arguments, implementation="pallas")
    # A latent without a value, or all of them, reach every point.
    assert np.isnan(np.asarray(values, np.float32)).all()

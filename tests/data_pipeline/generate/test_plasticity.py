"""Forging: yield, objectivity, elastic waves, energy, contact; the file."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.io import loadmat

from data_pipeline.generate import forging, generate, plasticity
from data_pipeline.registry import find_record

RESOLUTION = 21


@cache
def _pressed():
    """Press two blocks; returns nodes, dies, displacements and final states."""
    nodes = plasticity.material_nodes(RESOLUTION)
    gaps, slopes = (
        np.stack(part) for part in zip(*(plasticity.die_shape(0, k, nodes[0, :, 0]) for k in range(2)), strict=True)
    )
    with jax.enable_x64(True):
        die = forging.Die(jnp.asarray(gaps), jnp.asarray(slopes), plasticity.SPEED)
        steps = plasticity.time_steps(RESOLUTION)
        moved, state = forging.press(
            die, jnp.asarray(nodes), plasticity.STEEL, plasticity.DURATION, steps, plasticity.FRAMES - 1
        )
    return nodes, die, np.asarray(moved), state


def test_stress_returns_to_the_yield_surface():
    trial = np.random.default_rng(0).normal(scale=100.0, size=(4, 5, 6))
    with jax.enable_x64(True):
        stress, plastic = (np.asarray(part) for part in forging.return_to_yield(jnp.asarray(trial), plasticity.STEEL))

    def von_mises(s):
        xx, yy, zz, xy = s
        return np.sqrt(0.5 * ((xx - yy) ** 2 + (yy - zz) ** 2 + (zz - xx) ** 2) + 3.0 * xy**2)

    before, after = von_mises(trial), von_mises(stress)
    yields = before > 70.0
    assert yields.any()
    assert not yields.all()
    np.testing.assert_allclose(after, np.minimum(before, 70.0))
    np.testing.assert_allclose(stress[:3].sum(axis=0), trial[:3].sum(axis=0), atol=1e-9)
    np.testing.assert_allclose(plastic, np.maximum(before - 70.0, 0.0) / (3.0 * plasticity.STEEL.shear))


def test_stress_turns_with_the_material():
    steel = plasticity.STEEL._replace(yield_stress=1e9)
    steps = 20
    update = jax.jit(forging.update_elements)
    with jax.enable_x64(True):
        square = jnp.asarray([[[0.0, 0.0], [-1.0, -1.0]], [[0.0, -1.0], [0.0, -1.0]]])
        state = forging.at_rest(square)._replace(stress=jnp.asarray([50.0, -20.0, 10.0, 5.0])[:, None, None])
        for angle in (np.arange(steps) + 0.5) * 0.5 * np.pi / steps:
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            nodes = jnp.einsum("ab,bij->aij", turn, square)
            spin = jnp.stack([-nodes[1], nodes[0]])
            corners = forging.corners_of(nodes), forging.corners_of(spin)
            elements, power = update(state, *corners, 0.5 * np.pi / steps, steel)
            state = state._replace(stress=elements[0])
            assert abs(float(power)) < 1e-9
        stress = np.asarray(state.stress)[:, 0, 0]
    np.testing.assert_allclose(stress, [-20.0, 50.0, 10.0, -5.0], atol=1e-9)
    np.testing.assert_allclose(elements[1], 0.0, atol=1e-6)


def test_elastic_wave_has_the_speed_and_stress_of_theory():
    nodes = plasticity.material_nodes(51)
    steel = plasticity.STEEL._replace(yield_stress=1e9)
    depth, courant = 8.0, 0.5
    duration = depth / steel.wave_speed
    steps = int(np.ceil(depth / courant))
    with jax.enable_x64(True):
        die = forging.Die(jnp.zeros((1, 51)), jnp.zeros((1, 51)), plasticity.SPEED)
        _, state = forging.press(die, jnp.asarray(nodes), steel, duration, steps, 1)
    column = 25
    velocity = -np.asarray(state.velocity)[0, 1, column] / plasticity.SPEED
    assert velocity[:6] == pytest.approx(np.ones(6), abs=0.25)
    assert np.abs(velocity[11:]).max() < 0.02
    # The wave has passed as much as its front is deep.
    assert velocity.sum() - 0.5 == pytest.approx(depth, rel=0.05)
    stress = np.asarray(state.stress)[0, 1, column, :6]
    assert stress.mean() == pytest.approx(-steel.density * steel.wave_speed * plasticity.SPEED, rel=0.05)


def test_energy_is_balanced_volume_kept_and_yield_respected():
    nodes, _, moved, state = _pressed()
    with jax.enable_x64(True):
        mass = forging.lumped_mass(jnp.asarray(nodes), plasticity.STEEL.density)
        assert float(mass.sum()) == pytest.approx(750.0 * plasticity.STEEL.density)
        kinetic = np.array([0.5 * jnp.sum(mass * velocity**2) for velocity in state.velocity])
    work, internal = np.asarray(state.work), np.asarray(state.internal)
    np.testing.assert_allclose(internal + kinetic, work, rtol=2e-3)
    assert (kinetic < 0.05 * work).all()
    # Perfectly plastic: the work is about the yield stress times the plastic strain, over the area.
    xx, yy, zz, xy = np.moveaxis(np.asarray(state.stress), 1, 0)
    size = np.sqrt(0.5 * ((xx - yy) ** 2 + (yy - zz) ** 2 + (zz - xx) ** 2) + 3.0 * xy**2)
    assert size.max() <= 70.0 * (1.0 + 1e-12)
    assert (size > 69.9).mean() > 0.3
    x, y = np.moveaxis(nodes + moved[:, -1], 1, 0)
    ring = [np.concatenate([f[:, :, 0], f[:, -1, 1:], f[:, -2::-1, -1], f[:, 0, -2:0:-1]], axis=1) for f in (x, y)]
    area = 0.5 * (ring[0] * np.roll(ring[1], -1, axis=1) - ring[1] * np.roll(ring[0], -1, axis=1)).sum(axis=1)
    np.testing.assert_allclose(area, 750.0, rtol=2e-3)


def test_die_is_not_penetrated_and_the_lower_side_is_held():
    nodes, die, moved, _ = _pressed()
    assert (moved[:, :, :, :, -1] == 0.0).all()
    for block in range(2):
        one = forging.Die(die.height[block], die.slope[block], die.speed)
        for frame in (4, -1):
            time = plasticity.DURATION * (np.arange(1, plasticity.FRAMES)[frame] / (plasticity.FRAMES - 1))
            x, y = nodes[:, :, 0] + moved[block, frame, :, :, 0]
            with jax.enable_x64(True):
                height, _ = forging.die_surface(jnp.asarray(x), jnp.asarray(nodes), one, time)
            gap = np.asarray(height) - y
            assert gap.min() > -1e-9
            assert (gap < 1e-6).any()


def test_die_shape_touches_the_block_and_is_smooth_between_the_nodes():
    nodes = plasticity.material_nodes(101)
    gap, slope = plasticity.die_shape(2, 3, nodes[0, :, 0])
    assert gap.min() == 0.0
    assert gap.max() < 6.0
    with jax.enable_x64(True):
        die = forging.Die(jnp.asarray(gap), jnp.asarray(slope), 0.0)
        x = np.linspace(-49.0, 0.0, 300)
        height, rise = (np.asarray(part) for part in forging.die_surface(jnp.asarray(x), jnp.asarray(nodes), die, 0.0))
        other, _ = forging.die_surface(jnp.asarray(x + 1e-6), jnp.asarray(nodes), die, 0.0)
    np.testing.assert_allclose((np.asarray(other) - height) / 1e-6, rise, atol=1e-4)
    exact, _ = plasticity.die_shape(2, 3, x)
    assert np.ptp(height - plasticity.TOP - exact) < 1e-3


def test_file_and_loader(tmp_path):
    folder = generate("plasticity", tmp_path, num=2, progress=False, resolution=11)
    arrays = loadmat(folder / "plas_N987_T20.mat")
    assert arrays["input"].shape == (2, 11)
    fields = arrays["output"]
    assert fields.shape == (2, 11, 4, 20, 4)
    assert fields.dtype == np.float32
    grid = fields[..., :2] - fields[..., 2:]
    i, j = np.mgrid[0:11, 0:4]
    expected = np.stack([0.35 - 5.0 * i, 14.9 - 5.0 * j], axis=-1)
    np.testing.assert_allclose(grid, np.broadcast_to(expected[:, :, None], grid.shape), atol=1e-5)
    assert (fields[:, :, :, 0, 2:] == 0.0).all()
    assert fields[..., -1, 3].min() < -1.0
    loaded = find_record("plasticity").load(tmp_path, 1, 1)
    assert loaded.train.y.shape == (1, 44, 20, 4)

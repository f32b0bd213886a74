"""The physics of the generator against exact solutions, symmetries and balances (all with few, small elements)."""

import numpy as np
import pytest
import scipy.sparse as sparse

from data_pipeline.additive.generate import layered, multigrid, octree, process
from data_pipeline.additive.generate.bricks import elasticity_matrix
from data_pipeline.additive.generate.heat import AMBIENT, Heat, HeatSettings
from data_pipeline.additive.generate.multigrid import Multigrid, conjugate_gradients, rigid_modes
from data_pipeline.additive.graph import hanging_nodes
from tests.data_pipeline.additive.meshes import block, boxes

SHRINKAGE = -0.008


def grid(xs, ys, zs, group_of):
    """Return a body of boxes between coordinates; `group_of` gives the group of a layer."""
    cells = np.stack(np.meshgrid(*(np.arange(len(t) - 1) for t in (xs, ys, zs)), indexing="ij"), axis=-1).reshape(-1, 3)
    low = np.stack([np.asarray(t)[cells[:, d]] for d, t in enumerate((xs, ys, zs))], axis=1)
    high = np.stack([np.asarray(t)[cells[:, d] + 1] for d, t in enumerate((xs, ys, zs))], axis=1)
    points, elements = boxes(low, high - low)
    return layered.Body(points, elements, np.array([group_of(k) for k in cells[:, 2]]))


def built(body, strain, poisson=0.34, hold=True, incompatible=True, young=110e3, tolerance=1e-12):
    state = layered.Mechanics(body, elasticity_matrix(young, poisson), incompatible, tolerance, hold)
    for _ in state.build(np.tile(strain, (body.groups, 1))):
        pass
    return state


def curvature(points, displacement, axis=0):
    """Return the curvature along an axis of the deflection over the middle half of the body."""
    along = points[:, axis]
    middle = np.abs(along) <= 0.25 * np.ptp(along)
    return 2 * np.polyfit(along[middle], displacement[middle, 2], 2)[0]


def test_a_free_body_follows_any_constant_strain_without_stress():
    body = grid([0, 1, 2.5, 3], [0, 2, 3], [0, 0.5, 1.5], lambda k: 0)
    strain = np.array([-0.008, 0.003, -0.005, 0.002, -0.004, 0.001])
    state = built(body, strain, hold=False)
    tensor = np.array(
        [
            [strain[0], strain[5] / 2, strain[4] / 2],
            [strain[5] / 2, strain[1], strain[3] / 2],
            [strain[4] / 2, strain[3] / 2, strain[2]],
        ]
    )
    expected = layered.without_rigid_motion(body.nodes, body.nodes @ tensor)
    moved = layered.without_rigid_motion(body.nodes, state.u)
    np.testing.assert_allclose(moved, expected, atol=1e-12)
    assert np.abs(state.stress).max() < 1e-7


def test_so_does_one_with_hanging_nodes():
    points, elements = boxes([(0, 0, 0), *[(2, y, z) for y in (0, 1) for z in (0, 1)]], [(2, 2, 2), *[(1, 1, 1)] * 4])
    body = layered.Body(points, elements, np.zeros(5, int))
    assert hanging_nodes(points, elements).any()
    state = built(body, [0.001, 0.002, -0.003, 0, 0, 0], hold=False)
    assert np.abs(state.stress).max() < 1e-7


@pytest.mark.parametrize(("incompatible", "ratio"), [(True, 1.0), (False, 0.922)])
def test_a_strip_laid_in_layers_bends_as_beams_do(incompatible, ratio):
    """Four layers of 0.6 mm, free: curvature -(6 ε/h) Σ (q - 1)/q³; elements without modes lock in shear."""
    height, count = 0.6, 4
    body = grid(np.linspace(-12, 12, 41), [0, 0.6], height * np.arange(count + 1), lambda k: k)
    state = built(body, [SHRINKAGE, 0, 0, 0, 0, 0], poisson=0.0, hold=False, incompatible=incompatible)
    exact = -6 * SHRINKAGE / height * sum((q - 1) / q**3 for q in range(2, count + 1))
    assert exact == pytest.approx(1.96759e-2, rel=1e-5)
    # Upper nodes have not moved with the layers below them.
    bottom = body.nodes[:, 2] == 0
    found = curvature(body.nodes[bottom], state.u[bottom])
    assert found / exact == pytest.approx(ratio, rel=1e-6 if incompatible else 2e-3)


def test_a_bilayer_bends_by_timoshenkos_formula():
    lower, upper = 1.8, 0.6
    body = grid(np.linspace(-12, 12, 31), [0, 0.6], [0, 0.6, 1.2, 1.8, 2.4], lambda k: -1 if k < 3 else 0)
    state = built(body, [SHRINKAGE, 0, 0, 0, 0, 0], poisson=0.0, hold=False)
    exact = -6 * SHRINKAGE * lower * upper / (lower + upper) ** 3
    assert curvature(body.nodes, state.u) == pytest.approx(exact, rel=1e-6)


def test_a_plate_with_a_film_bends_by_stoneys_formula_with_its_correction():
    plate, film = 3.0, 0.3
    body = grid(np.linspace(-12, 12, 17), np.linspace(-12, 12, 17), [0, 1.5, 3.0, 3.3], lambda k: -1 if k < 2 else 0)
    state = built(body, [SHRINKAGE, SHRINKAGE, 0, 0, 0, 0], hold=False)
    line = np.abs(body.nodes[:, 1]) < 1e-9
    found = curvature(body.nodes[line], state.u[line])
    stoney = -6 * SHRINKAGE * film / plate**2
    assert found / (stoney * (plate / (plate + film)) ** 3) == pytest.approx(1.0, rel=1e-3)


@pytest.fixture(scope="module")
def square_block():
    """A square block of two groups on a plate, and its state after the last group."""
    body = grid(np.linspace(-3, 3, 5), np.linspace(-3, 3, 5), [-3, -1, 0, 1, 2, 3, 4], lambda k: max((k - 2) // 2, -1))
    return body, built(body, [SHRINKAGE, SHRINKAGE, -0.005, 0, 0, 0])


def test_a_square_block_keeps_all_eight_symmetries(square_block):
    body, state = square_block
    released = state.released()
    for nodes, u in ((body.nodes, state.u), (released.body.nodes, released.u)):
        key = {tuple(np.round(p, 6)): row for row, p in enumerate(nodes)}
        for swap in (np.diag([-1.0, 1, 1]), np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]])):
            image = [key[tuple(np.round(p, 6))] for p in nodes @ swap.T]
            np.testing.assert_allclose(u[image], u @ swap.T, atol=1e-11)


def test_forces_balance_before_and_after_release(square_block):
    body, state = square_block
    reactions = state.residual()
    held = body.nodes[:, 2] == body.nodes[:, 2].min()
    largest = np.abs(state.forces).max()
    assert np.abs(reactions[~held]).max() < 1e-9 * largest
    assert np.abs(reactions[held].sum(axis=0)).max() < 1e-9 * largest
    released = state.released()
    assert np.abs(released.residual()).max() < 1e-8 * largest
    centres = released.body.nodes[released.body.elements].mean(axis=1)[:, 2]
    area = released.body.sizes[:, 0] * released.body.sizes[:, 1]
    for height in np.unique(np.round(centres, 6)):
        cut = np.abs(centres - height) < 1e-6
        # The resultant of a horizontal cut, up to the part of σ_zz that is linear over an element.
        assert abs((released.stress[cut, 2] * area[cut]).sum()) < 1e-6 * np.abs(released.stress).max() * area[cut].sum()
    modes = rigid_modes(released.body.nodes)
    assert np.abs(modes.T @ released.u.ravel()).max() < 1e-9


def test_displacement_is_linear_in_the_strain_and_independent_of_the_modulus(square_block):
    body, state = square_block
    other = built(body, 2 * np.array([SHRINKAGE, SHRINKAGE, -0.005, 0, 0, 0]), young=220e3)
    np.testing.assert_allclose(other.u, 2 * state.u, atol=1e-10)
    np.testing.assert_allclose(other.stress, 4 * state.stress, atol=1e-6 * np.abs(state.stress).max())


def test_all_at_once_is_another_problem_than_layer_by_layer(square_block):
    body, state = square_block
    at_once = layered.Body(body.nodes, body.elements, np.minimum(body.group, 0))
    free = built(at_once, [SHRINKAGE, SHRINKAGE, -0.005, 0, 0, 0]).released()
    assert np.abs(free.stress).max() < 1e-6
    assert np.abs(state.released().stress).max() > 100


@pytest.mark.parametrize(("size", "on_plate", "released"), [(2.4, 0.0572, 0.0628), (1.2, 0.0563, 0.0652)])
def test_a_cube_of_four_groups_hardly_depends_on_the_elements(size, on_plate, released):
    side, height = np.arange(-4.8, 4.81, size), np.arange(-4.8, 9.61, size)
    per_group, plate = round(2.4 / size), round(4.8 / size)
    body = grid(side, side, height, lambda k: (k - plate) // per_group if k >= plate else -1)
    state = built(body, [SHRINKAGE, SHRINKAGE, -0.005, 0, 0, 0], tolerance=1e-7)
    assert body.groups == 4
    assert state.u[:, 2].max() == pytest.approx(on_plate, rel=1e-2)
    assert state.released().u[:, 2].max() == pytest.approx(released, rel=1e-2)


def test_multigrid_takes_the_same_iterations_on_larger_bodies():
    counts = []
    for cells in (6, 12):
        points, elements = block(cells, cells, cells)
        body = layered.Body(points, elements, np.zeros(len(elements), int))
        state = layered.Mechanics(body, elasticity_matrix(1.0, 0.3), tolerance=1e-8)
        list(state.build(np.tile([0.01, 0, 0, 0, 0, 0.01], (1, 1))))
        counts += state.iterations
    assert counts[1] <= counts[0] + 10 <= 40


def test_a_free_body_whose_coarsest_level_is_all_rigid_motion_is_solved(monkeypatch):
    monkeypatch.setattr(multigrid, "_COARSEST", 20)
    points, elements = block(6, 6, 6)
    body = layered.Body(points, elements, np.zeros(len(elements), int))
    state = layered.Mechanics(body, elasticity_matrix(1.0, 0.3), tolerance=1e-8, hold_plate=False)
    # Corners that pull against each other.
    system = layered._System(body, state._kind, state._bricks, hold=False)
    system.add_up_to(0)
    forces = np.zeros_like(points)
    forces[0], forces[-1] = [1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]
    _, iterations = system.solve(forces, 1e-8)
    assert system._preconditioner(system._active())._coarsest.shape == (6, 6)
    assert iterations < 60


def test_a_body_with_loose_parts_is_refused():
    matrix = sparse.csr_array(np.array([[1.0, 0.0], [0.0, -1.0]]))
    solver = Multigrid(sparse.eye_array(2, format="csr"), np.ones((2, 1)), 1)
    with pytest.raises(ArithmeticError, match="a matrix with 2 unknowns is not positive definite"):
        conjugate_gradients(matrix, np.array([1.0, 1.0]), solver, 1e-8)


@pytest.fixture(scope="module")
def octree_body():
    """A box of 20 x 20 x 7.2 mm with a hole, in the middle resolution: its mesh has two sizes of elements and more."""
    resolution = octree.Resolution(50)
    cell = octree.cell_size(20.0, 20.0, resolution)
    filled = np.ones((32, 32, 6), bool)
    filled[4:8, 4:8] = False
    return octree.build_mesh(octree.Voxels(filled, cell), resolution), filled, cell


def test_the_octree_covers_part_and_plate_once(octree_body):
    body, filled, cell = octree_body
    part = body.group >= 0
    assert body.volumes[part].sum() == pytest.approx(filled.sum() * np.prod(cell))
    size = np.ptp(body.nodes[body.elements[~part]].reshape(-1, 3), axis=0)
    assert body.volumes[~part].sum() == pytest.approx(size.prod())
    assert size[2] == 25.0
    assert body.groups == 3
    top = body.nodes[body.elements].max(axis=1)[:, 2]
    np.testing.assert_array_equal(body.group[part], np.ceil(np.round(top[part] / 2.4, 6)) - 1)
    levels = np.round(body.sizes[part, 2] / 1.2)
    assert set(levels) == {1, 2}
    assert body.nodes[np.unique(body.elements[part]), 0].mean() == pytest.approx(0, abs=0.3)


def test_walls_keep_their_finest_cells(octree_body):
    body, _, _ = octree_body
    part = body.group >= 0
    corners = body.nodes[body.elements[part]]
    side = np.isclose(np.abs(corners[..., 0]), 10.0).any(axis=1)
    assert side.any()
    np.testing.assert_allclose(body.sizes[part][side, 2], 1.2)


def test_other_resolutions_are_refused():
    with pytest.raises(ValueError, match="resolution=30 must be one of 25, 50, 100"):
        octree.Resolution(30)


def test_heat_is_kept_but_for_what_the_film_takes():
    body = grid([0, 1, 2], [0, 1, 2], [-2, -1, 0, 1, 2], lambda k: -1 if k < 2 else 0)
    closed = Heat(body, HeatSettings(film=0.0))
    closed.add(0)
    before = closed.heat()
    volume = body.volumes[body.group == 0].sum()
    assert before == pytest.approx(2.43e-3 * volume * (1650 - AMBIENT), rel=1e-9)
    closed.wait(1e6)
    assert closed.heat() == pytest.approx(before, rel=1e-5)
    np.testing.assert_allclose(closed.temperature, closed.temperature.mean(), rtol=1e-4)
    opened = Heat(body, HeatSettings())
    opened.add(0)
    opened.wait(1e8)
    np.testing.assert_allclose(opened.temperature, AMBIENT, atol=1.0)


def test_the_frames_of_a_build(octree_body):
    body, _, _ = octree_body
    frames = list(process.build(body, process.Process()))
    assert len(frames) == 2 * body.groups + 2
    assert [frame.layer for frame in frames] == [0, 0, 1, 1, 2, 2, 2, 2]
    assert (np.diff([frame.time for frame in frames]) >= 0).all()
    tops = [frame.body.nodes[:, 2].max() for frame in frames]
    np.testing.assert_allclose(tops, [2.4, 2.4, 4.8, 4.8, 7.2, 7.2, 7.2, 7.2])
    # Laid but not yet shrunk: new elements have no stress.
    assert np.abs(frames[2].element_stress[frames[2].body.group == 1]).max() == 0
    assert frames[2].temp.max() > 1000 > 300 > frames[3].temp.max() > 40
    assert (frames[-2].temp == AMBIENT).all()
    assert frames[-1].body.nodes[:, 2].min() == 0
    cold = np.abs(frames[-2].element_stress - frames[-3].element_stress).max()
    assert cold > 1
    fields = frames[-1].fields(process.Process())
    values = np.concatenate([fields[f"{rank}_stress"] for rank in ("max", "mid", "min")], axis=1)
    assert (np.diff(values) <= 0).all()

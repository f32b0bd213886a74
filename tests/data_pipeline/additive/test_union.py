"""Union of the meshes of a series, interpolation onto it, and distance features."""

import numpy as np
import pytest

from data_pipeline.additive import distance, interpolate
from data_pipeline.additive.merge import Step, merge
from data_pipeline.additive.union import union
from data_pipeline.errors import DataError
from tests.data_pipeline.additive.meshes import block, boxes, coarse_beside_fine


def volumes(points, elements):
    return (points[elements[:, 6]] - points[elements[:, 0]]).prod(axis=1)


def linear(points):
    return points @ np.array([[1.0, 0.5], [-2.0, 3.0], [0.7, 0.2]]) + np.array([4.0, -1.0])


def test_union_keeps_the_finest_elements_whatever_the_order_and_numbering():
    coarse, fine = boxes([(0, 0, 0)], 2.0), block(2, 2, 2)
    permuted = coarse[0], coarse[1][:, [1, 2, 3, 0, 5, 6, 7, 4]]
    with pytest.raises(DataError, match="corners in VTK's order"):
        union([permuted])
    above = boxes([(0, 0, 2)], 2.0)
    for order in ([coarse, fine, above], [above, fine, coarse], [fine, above, above]):
        points, elements = union(order)
        assert sorted(volumes(points, elements)) == [1] * 8 + [8]
        again = union([(points, elements)])
        np.testing.assert_array_equal(again[0], points)
        np.testing.assert_array_equal(again[1], elements)
    np.testing.assert_array_equal(points, points[np.lexsort(points.T[::-1])])


def test_an_element_covered_in_part_is_halved_not_lost():
    points, elements = union([boxes([(0, 0, 0)], 4.0), boxes([(0, 0, 0), (3, 3, 3)], 1.0)])
    found = volumes(points, elements)
    assert found.sum() == pytest.approx(64)
    assert sorted(np.round(found))[:2] == [1, 1]
    assert 8 in np.round(found)


def test_coordinates_that_differ_in_the_last_bit_are_one():
    points, elements = block(2, 1, 1)
    noisy = (points * (1 + 1e-7)).astype(np.float32)
    assert len(union([(points, elements), (noisy, elements)])[0]) == len(points)


def test_linear_fields_are_reproduced_across_hanging_nodes():
    points, elements = coarse_beside_fine()
    rng = np.random.default_rng(0)
    targets = rng.uniform([0, 0, 0], [3, 2, 2], (200, 3))
    np.testing.assert_allclose(
        interpolate.trilinear(points, elements, linear(points), targets), linear(targets), atol=1e-12
    )
    values = rng.normal(size=(len(points), 1))
    np.testing.assert_array_equal(interpolate.trilinear(points, elements, values, points), values)
    with pytest.raises(DataError, match=r"1 of 1 points lie in no element of the mesh, the first at \(5, 0, 0\)"):
        interpolate.trilinear(points, elements, values, np.array([[5.0, 0, 0]]))


def test_steps_are_merged_with_zeros_above_the_top():
    steps = []
    for number, (points, elements) in enumerate([boxes([(0, 0, 0)], 2.0), block(2, 2, 3)]):
        state = linear(points)
        steps.append(Step(points, elements, np.repeat(state[:, :1], 3, 1), state[:, 1:], state[:, :1], number))
    merged = merge("part", steps)
    below = merged.pos[:, 2] <= 2
    np.testing.assert_allclose(merged.vmstr[0, below, 0], linear(merged.pos)[below, 1], atol=1e-12)
    assert (merged.disp[0, ~below] == 0).all()
    assert merged.zmax.tolist() == [2.0, 3.0]
    with pytest.raises(DataError, match="choose one of trilinear, idw"):
        merge("part", steps, "nearest")


def test_an_overhang_that_begins_at_the_top_is_not_there_yet():
    """Two piers, then a deck: nodes below the deck have the height of the piers, but come with the deck."""
    piers, deck = [(0, 0, 0), (2, 0, 0)], [(x, 0, 1) for x in range(3)]
    steps = []
    for cells in (piers, piers + deck):
        points, elements = boxes(cells, 1.0)
        ones = np.ones((len(points), 1))
        steps.append(Step(points, elements, np.repeat(ones, 3, 1), ones, ones, 0.0))
    merged = merge("bridge", steps)
    middle = (merged.pos[:, 2] == 1) & np.isin(merged.pos[:, 0], [1.0, 2.0])
    assert middle.sum() == 4
    np.testing.assert_array_equal(merged.temp[0, :, 0], merged.pos[:, 2] <= 1)
    wide = boxes([(0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 0, 0)], 1.0)
    part = Step(*boxes([(0, 0, 0), (4, 0, 0)], 1.0), np.ones((16, 3)), np.ones((16, 1)), np.ones((16, 1)), 0.0)
    whole = Step(*wide, np.ones((24, 3)), np.ones((24, 1)), np.ones((24, 1)), 0.0)
    with pytest.raises(DataError, match="step 0 of other: its mesh lacks 4 nodes of other steps below its top at 1 mm"):
        merge("other", [part, whole])


def test_distances_of_a_wall():
    """A wall of 4 x 2 x 3: depths to faces are known, and refinement changes nothing at common nodes."""
    points, elements = block(4, 2, 3)
    features = distance.distance_features(points, elements)
    size = np.array([4.0, 2.0, 3.0])
    np.testing.assert_allclose(features[:, 5:8], points)
    np.testing.assert_allclose(features[:, 8:], size - points)
    np.testing.assert_allclose(features[:, 4], np.minimum(points, size - points).min(axis=1))
    np.testing.assert_allclose(np.linalg.norm(features[:, 1:4], axis=1), features[:, 4])
    fine = distance.distance_features(*block(8, 4, 6, size=(0.5, 0.5, 0.5)))
    common = (block(8, 4, 6, size=(0.5, 0.5, 0.5))[0] % 1 == 0).all(axis=1)
    np.testing.assert_allclose(fine[common, 4:], features[:, 4:])

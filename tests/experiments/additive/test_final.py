"""Runs on the final state of printed parts, as a user makes them."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipeline.additive.inputs import node_inputs
from data_pipeline.additive.lattice import CORNERS
from data_pipeline.additive.messages import message_edges
from data_pipeline.additive.samples import SCALE
from data_pipeline.errors import DataError
from data_pipeline.graphs import NO_NODE
from data_pipeline.pde import lpbf
from experiments.additive.figures import DrawnPart, parts_figure
from experiments.training.tasks.nearest_parts import nearest_parts_errors
from experiments.training.tasks.regression import regression_task
from experiments.training.tasks.symmetries import turned
from tests.experiments.additive import parts


def test_edges_of_a_part_with_hanging_nodes(final_data):
    dataset = lpbf.load(final_data, 4, 2, edges=True)
    assert dataset.edge_dim == 4
    raw = np.load(final_data / "LPBF_FLARE" / "train" / "case00000_part_0.npz")
    edges = dataset.train.edges[0]
    real = edges[edges[:, 1] != NO_NODE]
    by_target = [tuple(pair) for pair in raw["edge_index"].T[:, ::-1]]
    plain = [(int(target), int(source)) for source, target, mark in real if not mark]
    assert plain == sorted(by_target)
    hanging = real[real[:, 2] == 1]
    # 2 × 2 large elements under fine ones: the middle of a face has 4 parents, and that of an edge is joined to its 2
    # by the edges of fine elements.
    assert len(hanging) == 2 * 4 * 4
    assert lpbf.load(final_data, 4, 2, hanging_edges=False, edges=True).edge_dim == 3
    assert lpbf.load(final_data, 4, 2).train.edges is None


def test_distances_to_the_surface_as_inputs(final_data):
    dataset = lpbf.load(final_data, 4, 2, distance_features=True)
    assert dataset.c_in == 13
    raw = np.load(final_data / "LPBF_FLARE" / "train" / "case00001_part_1.npz")
    count, heights = len(raw["pos"]), raw["pos"][:, 2]
    found = dataset.train.x[1, :count]
    np.testing.assert_allclose(found[:, :3], raw["pos"] / [30, 30, 60], rtol=1e-6)
    # A block: down to the plate, and up to the top.
    np.testing.assert_allclose(found[:, 3 + 6], heights / 60, atol=1e-6)
    np.testing.assert_allclose(found[:, 3 + 9], (heights.max() - heights) / 60, atol=1e-6)


def test_symmetries_move_places_and_distances_alike():
    """The inputs of a part that is turned are the turned inputs of the part, for all eight symmetries."""
    pos, elements = parts.block(2, 3, fine=True)
    pos = pos[:, [2, 1, 0]] * np.float32([1, 0.7, 1])  # no symmetry of its own
    elements = elements_in_order(pos, elements)
    x = jnp.asarray(node_inputs(pos, elements, True, "a"), jnp.float32)[None]
    seen = set()
    for number in range(8):
        found = np.asarray(turned(x, jnp.array([number]))[0])
        places = found[:, :3] * SCALE
        seen.add(tuple(np.round(places[-1], 3)) + tuple(np.round(places[1], 3)))
        moved = elements_in_order(places, elements)
        expected = node_inputs(places, moved, True, "b")
        unique = [*range(3), *range(6, 13)]  # the nearest surface point may be one of several
        np.testing.assert_allclose(found[:, unique], expected[:, unique], atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(found[:, 3:6] * SCALE, axis=1), found[:, 6] * 73.4847, atol=1e-4)
        np.testing.assert_array_equal(turned(x[..., :3], jnp.array([number]))[0], found[:, :3])
    assert len(seen) == 8


def elements_in_order(points, elements):
    """Return elements with their corners in VTK's order after the points have moved."""
    corners = points[elements]
    codes = np.round((corners - corners.min(axis=1, keepdims=True)) / np.ptp(corners, axis=1)[:, None]).astype(int)
    wanted = (codes[:, None] == CORNERS[None, :, None]).all(-1).argmax(-1)
    return np.take_along_axis(elements, wanted, axis=1)


def test_metrics_of_parts(final_data):
    """Errors in the units of the files, and at the hundredth of the nodes that move most."""
    dataset = lpbf.load(final_data, 4, 2, fields="disp_z,vm")
    task = regression_task(dataset, lambda params, x, mask: jnp.zeros((*x.shape[:2], 2)))
    batch = {name: jnp.asarray(value) for name, value in task.train.items()}
    prediction = batch["y"] + 0.01 * jax.random.normal(jax.random.key(0), batch["y"].shape)
    found = {name: np.asarray(metric(prediction, batch)) for name, metric in task.metrics.items()}
    for case in range(4):
        real = dataset.train.real(case)
        truth, error = (np.float64(values[case][real, 1]) for values in (batch["y"], prediction - batch["y"]))
        np.testing.assert_allclose(found["rms/vm"][case], 1000 * np.sqrt(np.mean(error**2)), rtol=1e-4)
        np.testing.assert_allclose(found["max_error/vm"][case], 1000 * np.abs(error).max(), rtol=1e-4)
        most = np.abs(truth) >= np.sort(np.abs(truth))[-int(np.ceil(0.01 * real.sum()))]
        relative = np.linalg.norm(error[most]) / np.linalg.norm(truth[most])
        np.testing.assert_allclose(found["rel_l2_largest/vm"][case], relative, rtol=1e-4)


def test_a_part_like_a_training_part_takes_its_fields(final_data):
    dataset = lpbf.load(final_data, 4, 2)
    three_times = replace(dataset.train, **{k: np.repeat(v[:2], 3, axis=0) for k, v in dataset.train.arrays().items()})
    copies = replace(dataset, train=three_times)
    errors = list(nearest_parts_errors(copies, dataset.train))
    np.testing.assert_allclose(errors[:2], 0, atol=1e-7)
    assert errors[2] > 0.1


def test_a_constant_temperature_is_refused(final_data, tmp_path):
    parts.write_final(tmp_path)
    for path in tmp_path.rglob("*.npz"):
        arrays = dict(np.load(path))
        np.savez(path, **(arrays | {"temp": np.full_like(arrays["temp"], 25.0)}))
    message = r"names temp, which is 25 everywhere in .*, so that there is nothing to learn .*; leave it out"
    with pytest.raises(DataError, match=message):
        lpbf.load(tmp_path, 4, 2, fields="disp_z,temp")
    assert lpbf.load(final_data, 4, 2, fields="temp").c_out == 1


def test_elements_that_are_no_boxes_have_no_hanging_nodes():
    pos, elements = parts.block(1, 1, fine=False)
    with pytest.raises(DataError, match=r"part.npz: its hanging nodes .*set data.hanging_edges=False"):
        message_edges(pos + np.arange(8)[:, None] * [0.3, 0, 0], elements, True, "part.npz")


def test_parts_are_drawn_by_the_faces_that_are_seen():
    """Those of a block to one side of each axis; between larger and smaller elements both are no neighbours."""
    pos, elements = parts.block(2, 3, fine=False)
    truth = pos[:, 2]
    figure = parts_figure([DrawnPart("block", pos, elements, truth, truth + 1)] * 2, "height")
    shown = [axes.collections[0] for axes in figure.axes if axes.name == "3d"]
    assert len(shown) == 2 * 3
    assert [len(faces.get_facecolor()) for faces in shown] == [2 * 2 + 2 * 2 * 3] * 6

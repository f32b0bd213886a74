"""Runs on the final state of printed parts, as a user makes them."""

import json

import numpy as np
import pytest

from data_pipeline.additive.messages import message_edges
from data_pipeline.errors import DataError
from data_pipeline.graphs import NO_NODE
from data_pipeline.pde import lpbf
from tests.experiments.additive import parts


@pytest.mark.slow
def test_a_graph_network_on_two_fields(final_run):
    options = json.loads((final_run / "config.json").read_text())["model_options"]
    assert options["edge_dim"] == 4  # the vector, and the mark of hanging nodes
    summary = json.loads((final_run / "eval.json").read_text())
    assert summary["fields"] == ["disp_z", "vm"]
    assert 0 < summary["test/rel_l2/vm"] < np.inf
    medians = json.loads((final_run / "r2_medians.json").read_text())
    assert medians["train"]["parts"] == 4
    table = (final_run / "test_stats.txt").read_text().splitlines()
    assert table[0] == "case_num,case_name,MSE,R-Square"
    assert [row.split(",")[1] for row in table[1:]] == ["case00004_part_4", "case00005_part_5"]
    assert {"r2_boxplot.png", "train_worst_parts.png"} <= {path.name for path in (final_run / "figures").iterdir()}


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

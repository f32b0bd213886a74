"""Sets of nodes and sides of Exodus and boundary conditions of CGNS are fields of 0 and 1."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import netcdf_file

from data_pipeline import cgns
from data_pipeline.custom.proposal import propose, samples_at
from data_pipeline.errors import DataError
from data_pipeline.vtk import read_mesh
from tests.data_pipeline.test_mesh_steps import _node, write_cgns

pytest.importorskip("pyvista")
# Two hexahedra in a row, x from 0 to 2; corners are numbered from 1, x slowest and z fastest.
POINTS = np.array([[x, y, z] for x in (0, 1, 2) for y in (0, 1) for z in (0, 1)], float)
HEXAHEDRA = np.array([[1, 5, 7, 3, 2, 6, 8, 4], [5, 9, 11, 7, 6, 10, 12, 8]], np.int32)
END = [9, 11, 12, 10]  # the side at x = 2
NAMES = {"ss": ["outlet"], "ns": ["corner", "outlet", ""], "eb": ["left", "right"]}


def write_exodus(path: Path, classic: bool = True) -> None:
    """Write the hexahedra as two blocks, with a field, and sets of sides and of nodes, one of them without a name."""
    with netcdf_file(path, "w", version=1 if classic else 2) as file:
        file.api_version = file.version = np.float32(5.1)
        file.floating_point_word_size, file.file_size, file.title = np.int32(8), np.int32(1), "two cubes"
        sizes = {"time_step": None, "len_string": 33, "num_dim": 3, "num_nodes": 12, "num_elem": 2, "num_nod_var": 1}
        sizes |= {"num_el_blk": 2, "num_side_sets": 1, "num_node_sets": 3}
        sizes |= {f"num_el_in_blk{n}": 1 for n in (1, 2)} | {f"num_nod_per_el{n}": 8 for n in (1, 2)}
        sizes |= {"num_side_ss1": 1, "num_nod_ns1": 1, "num_nod_ns2": 2, "num_nod_ns3": 2}
        for name, size in sizes.items():
            file.createDimension(name, size)

        def add(name, kind, dimensions, values):
            variable = file.createVariable(name, kind, dimensions)
            variable[:] = values
            return variable

        def add_names(name, dimension, texts):
            letters = [list(text.ljust(33, "\0").encode()) for text in texts]
            add(name, "c", (dimension, "len_string"), np.array(letters, np.uint8).view("S1"))

        kinds = {"eb": "num_el_blk", "ss": "num_side_sets", "ns": "num_node_sets"}
        for kind, dimension in kinds.items():
            add(f"{kind}_status", "i", (dimension,), 1)
            add(f"{kind}_prop1", "i", (dimension,), [7, 8, 9][: sizes[dimension]]).name = "ID"
            add_names(f"{kind}_names", dimension, NAMES[kind])
        add_names("coor_names", "num_dim", "xyz")
        add_names("name_nod_var", "num_nod_var", ["p"])
        for axis, name in enumerate("xyz"):
            add(f"coord{name}", "d", ("num_nodes",), POINTS[:, axis])
        for n in (1, 2):
            add(f"connect{n}", "i", (f"num_el_in_blk{n}", f"num_nod_per_el{n}"), HEXAHEDRA[n - 1]).elem_type = "HEX8"
        add("elem_ss1", "i", ("num_side_ss1",), 2)
        add("side_ss1", "i", ("num_side_ss1",), 2)  # of a hexahedron the one at the end of x
        add("node_ns1", "i", ("num_nod_ns1",), 1)
        add("node_ns2", "i", ("num_nod_ns2",), [9, 7])
        add("node_ns3", "i", ("num_nod_ns3",), [3, 4])
        file.createVariable("time_whole", "d", ("time_step",))[0] = 0.5
        file.createVariable("vals_nod_var1", "d", ("time_step", "num_nodes"))[0] = 10 * POINTS[:, 0]


@pytest.mark.parametrize("suffix", [".exo", ".e"])
def test_sets_of_exodus_are_marks(tmp_path, suffix):
    write_exodus(tmp_path / f"a{suffix}", classic=suffix == ".e")
    mesh = read_mesh(tmp_path / f"a{suffix}")
    points = np.asarray(mesh.points)
    assert len(points) == 16  # blocks keep their points
    np.testing.assert_array_equal(mesh.point_data["p"], 10 * points[:, 0])

    def marked(name):
        return {tuple(map(int, point)) for point in points[mesh.point_data[name] == 1]}

    # The node set of the same name is the same mark.
    assert marked("outlet") == {(2, y, z) for y in (0, 1) for z in (0, 1)} | {(1, 1, 0)}
    assert marked("corner") == {(0, 0, 0)}
    assert marked("node_set_9") == {(0, 1, 0), (0, 1, 1)}
    assert set(mesh.point_data.keys()) == {"p", "outlet", "corner", "node_set_9", "block"}
    proposal, _ = propose(tmp_path, samples_at(tmp_path)[""][0])
    assert {"outlet", "corner", "node_set_9"} <= set(proposal.fields["inputs"])
    assert proposal.fields["targets"] == ["p"]


def write_conditions(path: Path, conditions: dict, sections: dict) -> None:
    """Write an unstructured zone of the hexahedra with sections (type, range, numbers, offsets) and conditions."""
    write_cgns(path)
    with h5py.File(path, "a") as file:
        for number in range(2):
            del file[f"Base/Zone{number}"]
        zone = _node(file["Base"], "Zone", "Zone_t", "I4", np.array([[12], [2], [0]], np.int32))
        _node(zone, "ZoneType", "ZoneType_t", "C1", "Unstructured")
        grid = _node(zone, "GridCoordinates", "GridCoordinates_t")
        for axis, name in enumerate("XYZ"):
            _node(grid, f"Coordinate{name}", "DataArray_t", "R8", POINTS[:, axis].copy())
        solution = _node(zone, "Solution", "FlowSolution_t")
        _node(solution, "GridLocation", "GridLocation_t", "C1", "Vertex")
        _node(solution, "Pressure", "DataArray_t", "R8", np.arange(12.0))
        sections = {"Hexahedra": (17, (1, 2), HEXAHEDRA.ravel(), None), **sections}
        for name, (kind, numbers, connectivity, offsets) in sections.items():
            section = _node(zone, name, "Elements_t", "I4", np.array([kind, 0], np.int32))
            _node(section, "ElementRange", "IndexRange_t", "I4", np.array(numbers, np.int32))
            _node(section, "ElementConnectivity", "DataArray_t", "I4", np.array(connectivity, np.int32))
            if offsets is not None:
                _node(section, "ElementStartOffset", "DataArray_t", "I4", np.array(offsets, np.int32))
        write_zone_conditions(zone, conditions)


def write_zone_conditions(zone, conditions: dict) -> None:
    """Add conditions (child of the points, its values, where these are or '', family or '') to a zone."""
    every = _node(zone, "ZoneBC", "ZoneBC_t")
    for name, (child, values, place, family) in conditions.items():
        condition = _node(every, name, "BC_t", "C1", "FamilySpecified" if family else "BCWall")
        label = "IndexArray_t" if child.endswith("List") else "IndexRange_t"
        _node(condition, child, label, "I4", np.array(values, np.int32))
        if place:
            _node(condition, "GridLocation", "GridLocation_t", "C1", place)
        if family:
            _node(condition, "FamilyName", "FamilyName_t", "C1", family)
        # Directions at the points, which are none of their numbers.
        _node(condition, "InwardNormalList", "IndexArray_t", "R8", np.zeros((1, 3)))


def test_conditions_of_a_zone_of_elements_are_marks(tmp_path):
    sections = {
        "Quads": (7, (3, 4), [*END, 1, 2, 4, 3], None),
        "Polygons": (22, (5, 6), [1, 3, 7, 5, 2, 4, 8], [0, 4, 7]),
        "Old polygons": (22, (7, 8), [3, 1, 2, 3, 4, 5, 6, 7, 8], None),
        "Mixed": (20, (9, 10), [5, 1, 2, 3, 7, 9, 10, 11, 12], None),
        "Cells": (23, (11, 12), [1, 2, 3], [0, 1, 3]),
    }
    conditions = {
        "end": ("PointRange", [[3], [3]], "FaceCenter", "outlet"),
        "some points": ("PointList", [[1], [2], [5]], "", ""),
        "more": ("PointList", [[7]], "Vertex", "outlet"),
        "faces": ("PointList", [[4], [6]], "FaceCenter", ""),
        "old": ("ElementList", [[8]], "", ""),
        "mixed": ("ElementRange", [[9], [10]], "", ""),
    }
    write_conditions(tmp_path / "a.cgns", conditions, sections)
    found = {
        name: (1 + points).tolist() for name, points in cgns.boundary_sets(tmp_path / "a.cgns")["Base/Zone"].items()
    }
    assert found == {
        "outlet": [7, 9, 10, 11, 12],
        "some points": [1, 2, 5],
        "faces": [1, 2, 3, 4, 8],
        "old": [5, 6, 7, 8],
        "mixed": [1, 2, 3, 9, 10, 11, 12],
    }  # fmt: skip
    write_conditions(tmp_path / "b.cgns", {"end": conditions["end"]}, {"Quads": sections["Quads"]})
    mesh = read_mesh(tmp_path / "b.cgns")
    np.testing.assert_array_equal(mesh.point_data["outlet"], mesh.points[:, 0] == 2)
    write_conditions(tmp_path / "c.cgns", {"end": ("PointList", [[13]], "", "")}, {})
    with pytest.raises(DataError, match=r"condition 'end' on points 13 to 13, but there are 12, numbered from 1; get"):
        read_mesh(tmp_path / "c.cgns")
    write_conditions(
        tmp_path / "d.cgns", {"end": ("ElementRange", [[3], [3]], "", "")}, {"X": (20, (3, 3), [99], None)}
    )
    with pytest.raises(DataError, match=r"has an element of the unknown type 99; save it without"):
        read_mesh(tmp_path / "d.cgns")


@pytest.mark.parametrize(
    ("child", "values", "place"),
    [
        ("PointRange", [[1, 1, 1], [3, 1, 2]], ""),
        ("PointRange", [[1, 1, 1], [2, 1, 1]], "JFaceCenter"),
        ("PointRange", [[1, 1, 1], [2, 1, 1]], "FaceCenter"),
        ("PointList", [[x, 1, z] for x in (1, 2, 3) for z in (1, 2)], "Vertex"),
    ],
)
def test_conditions_of_grids_are_marks_and_no_further_zones(tmp_path, child, values, place):
    """VTK would give zones of conditions on families again, with their points twice."""
    write_cgns(tmp_path / "a.cgns")
    with h5py.File(tmp_path / "a.cgns", "a") as file:
        write_zone_conditions(file["Base/Zone1"], {"bottom": (child, values, place, "wall")})
    mesh = read_mesh(tmp_path / "a.cgns")
    assert (mesh.n_points, mesh.n_cells) == (24, 4)
    expected = (mesh.points[:, 1] == 0) & (mesh.point_data["block"] == 1)
    np.testing.assert_array_equal(mesh.point_data["wall"], expected)

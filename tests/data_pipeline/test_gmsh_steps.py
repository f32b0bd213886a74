"""Files of Gmsh with several steps in time."""

from pathlib import Path

import numpy as np
import pytest

from data_pipeline import gmsh_steps
from data_pipeline.custom.folder import find_samples
from data_pipeline.custom.readers import read_sample
from data_pipeline.custom.sample import parse_fields
from data_pipeline.errors import DataError
from data_pipeline.vtk import read_mesh

meshio = pytest.importorskip("meshio")
pytest.importorskip("pyvista")
TIMES = (0.0, 0.5, 2.0)
POINTS = np.array([[x, y, 0] for y in (0.0, 1) for x in (0.0, 1, 2)])
CELLS = [("quad", np.array([[0, 1, 4, 3], [1, 2, 5, 4]]))]


def _block(name: str, number: int, time: float, values: np.ndarray, binary: bool) -> bytes:
    head = f'$NodeData\n1\n"{name}"\n1\n{time}\n3\n{number}\n1\n{len(values)}\n'.encode()
    if binary:
        rows = np.empty(len(values), dtype=[("node", "<i4"), ("value", "<f8")])
        rows["node"], rows["value"] = np.arange(1, len(values) + 1), values
        data = rows.tobytes() + b"\n"
    else:
        data = "".join(f"{node} {value}\n" for node, value in enumerate(values, start=1)).encode()
    return head + data + b"$EndNodeData\n"


def write_steps(path: Path, version: str = "4.1", binary: bool = False, times=TIMES) -> None:
    """Write two squares with T at all times and k at one."""
    kind = {"4.1": "gmsh", "2.2": "gmsh22"}[version]
    meshio.Mesh(POINTS, CELLS).write(path, file_format=kind, binary=binary)
    content = path.read_bytes() + _block("k", 0, 0.0, np.full(6, 7.0), binary)
    for number, time in enumerate(times):
        content += _block("T", number, time, np.arange(6.0) + 10 * number, binary)
    path.write_bytes(content)


@pytest.mark.parametrize("version", ["4.1", "2.2"])
@pytest.mark.parametrize("binary", [False, True])
def test_steps_have_their_own_values(tmp_path, version, binary):
    path = tmp_path / "a.msh"
    write_steps(path, version, binary)
    assert gmsh_steps.times_of(path) == list(TIMES)
    for step in range(3):
        mesh = read_mesh(path, step)
        np.testing.assert_array_equal(mesh.point_data["T"], np.arange(6.0) + 10 * step)
        np.testing.assert_array_equal(mesh.point_data["k"], np.full(6, 7.0))


def test_steps_of_a_file_are_samples(tmp_path):
    for number in range(2):
        write_steps(tmp_path / f"case_{number}.msh")
    references = find_samples(tmp_path)[""]
    assert [one.name for one in references] == [f"case_{case}_000{step}" for case in range(2) for step in range(3)]
    sample = read_sample(references[4], parse_fields("points", "time,k", "T"))
    np.testing.assert_array_equal(sample.inputs["time"], 0.5)
    np.testing.assert_array_equal(sample.inputs["k"][:, 0], np.full(6, 7.0))
    np.testing.assert_array_equal(sample.targets["T"][:, 0], np.arange(6) + 10)


def test_one_step_is_no_series_and_times_that_repeat_are_numbered(tmp_path):
    path = tmp_path / "a.msh"
    write_steps(path, times=(3.0,))
    assert gmsh_steps.times_of(path) == []
    write_steps(path, times=(3.0, 3.0, 3.0))
    assert gmsh_steps.times_of(path) == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("replaced", "reason"),
    [((b"$EndNodeData", b"$End"), "it has no end"), ((b"$NodeData\n1\n", b"$NodeData\nx\n"), "invalid literal")],
)
def test_damaged_blocks(tmp_path, replaced, reason):
    path = tmp_path / "a.msh"
    write_steps(path)
    content = path.read_bytes()
    path.write_bytes(content.replace(*replaced))
    with pytest.raises(DataError, match=f"damaged block of NodeData .*{reason}"):
        gmsh_steps.times_of(path)

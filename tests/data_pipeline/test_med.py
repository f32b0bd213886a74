"""MED files with several steps, and with fields and families that some types of cells do not have."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from data_pipeline import med
from data_pipeline.custom.folder import find_samples
from data_pipeline.custom.readers import read_contents, read_sample
from data_pipeline.custom.sample import parse_fields
from data_pipeline.errors import DataError
from data_pipeline.vtk import fields_at_centres, read_mesh

meshio = pytest.importorskip("meshio")
pytest.importorskip("pyvista")
TIMES = (0.0, 0.5, 2.0)
POINTS = np.array([[x, y] for y in (0.0, 1) for x in (0.0, 1, 2)])
CELLS = [("quad", np.array([[0, 1, 4, 3], [1, 2, 5, 4]])), ("line", np.array([[0, 3]]))]


def _key(number: int) -> str:
    return f"{number:020d}{-1:020d}"


def write_med(path: Path, times=TIMES, moving: bool = False) -> None:
    """Write squares with an edge `wall`, T at nodes and q at the squares alone at all times, k without a time.

    As MEDCoupling does, of which the families of the squares, which have none, are not there.
    """
    tags = [np.array([0, 0]), np.array([-2])]
    data = {"T": np.arange(6.0), "k": np.full(6, 7.0)}
    mesh = meshio.Mesh(POINTS, CELLS, data, {"q": [np.array([1.0, 2]), np.zeros(1)], "cell_tags": tags})
    mesh.cell_tags = {-2: ["wall"]}
    mesh.write(path)
    with h5py.File(path, "a") as file:
        meshes, fields = file["ENS_MAA/mesh"], file["CHA"]
        (place,) = meshes.values()
        del place["MAI/QU4/FAM"]
        for name in ("T", "q"):
            (step,) = fields[name].values()
            for number, time in enumerate(times):
                fields[name].copy(step, _key(number))
                copied = fields[name][_key(number)]
                copied.attrs.update({"NDT": number, "NOR": -1, "PDT": time})
                values = copied["NOE" if name == "T" else "MAI.QU4"]["MED_NO_PROFILE_INTERNAL/CO"]
                values[()] = values[()] + 10 * number
                if name == "q":
                    del copied["MAI.SE2"]
            del fields[name][step.name.rpartition("/")[2]]
        if moving:
            meshes.copy(place, _key(1))
            meshes[_key(1)].attrs.update({"NDT": 1, "NOR": -1, "PDT": times[1]})
            meshes[_key(1)]["NOE/COO"][:6] += 1


def test_steps_of_a_file_are_samples(tmp_path):
    for number in range(2):
        write_med(tmp_path / f"case_{number}.med")
    references = find_samples(tmp_path)[""]
    assert [one.name for one in references] == [f"case_{case}_000{step}" for case in range(2) for step in range(3)]
    for step, reference in enumerate(references[3:]):
        sample = read_sample(reference, parse_fields("points", "time,wall,k", "T"))
        np.testing.assert_array_equal(sample.inputs["time"], TIMES[step])
        np.testing.assert_array_equal(sample.inputs["wall"][:, 0], [1, 0, 0, 1, 0, 0])
        np.testing.assert_array_equal(sample.targets["T"][:, 0], np.arange(6) + 10 * step)
        nodes = read_contents(reference, cell_data="nodes").arrays["q"]
        np.testing.assert_array_equal(nodes, np.array([1, 1.5, 2, 1, 1.5, 2]) + 10 * step)
    centres, fields = fields_at_centres(read_mesh(tmp_path / "case_0.med", 2))
    np.testing.assert_array_equal(centres[:, 0], [0.5, 1.5])
    np.testing.assert_array_equal(fields["q"], [21, 22])


def test_a_mesh_that_moves_and_times_that_repeat(tmp_path):
    write_med(tmp_path / "a.med", times=(0.0, 0.0, 0.0), moving=True)
    assert med.times_of(tmp_path / "a.med") == [0, 1, 2]
    places = [read_mesh(tmp_path / "a.med", step).points[:, 0].max() for step in range(3)]
    assert places == [2, 3, 3]


def test_a_file_of_one_step_is_one_sample(tmp_path):
    write_med(tmp_path / "a.med", times=(1.5,))
    (reference,) = find_samples(tmp_path)[""]
    assert reference.within is None
    contents = read_contents(reference, cell_data="nodes")
    np.testing.assert_array_equal(contents.arrays["T"], np.arange(6))
    np.testing.assert_array_equal(contents.arrays["q"], [1, 1.5, 2, 1, 1.5, 2])
    (tmp_path / "a.med").write_bytes(b"no mesh")
    (reference,) = find_samples(tmp_path)[""]
    with pytest.raises(DataError, match=r"a.med cannot be read as a MED file \(.*\); write or copy it again"):
        read_contents(reference)

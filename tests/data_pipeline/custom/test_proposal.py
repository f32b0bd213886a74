"""What files of one's own hold, said with options that the training takes as they are."""

import json
import re
import shlex

import numpy as np
import pytest

from configs import custom
from data_pipeline import inspect
from data_pipeline.custom.proposal import propose
from data_pipeline.custom.readers import Reference
from data_pipeline.registry import load_dataset
from tests.data_pipeline.custom.files import CELLS, sample, write_npz
from tests.data_pipeline.custom.test_series import write_series


def _inspect(capsys, tmp_path, path, *arguments):
    status = inspect.main([str(path), f"--out={tmp_path / 'a.png'}", *arguments])
    return status, capsys.readouterr()


def _proposed(text):
    words = shlex.split(text[text.index("python -m") :].split("drawn")[0].replace("\\\n", " "))
    return dict(re.fullmatch(r"--config\.data\.(\w+)=(.*)", word).groups() for word in words if ".data." in word)


def test_a_folder(tmp_path, capsys):
    write_npz(tmp_path / "own data", {"train": (5, 9, 7), "test": (6, 8)})
    status, printed = _inspect(capsys, tmp_path, tmp_path / "own data", "--case=1")
    assert status == 0
    assert "holds 2 test, 3 train samples" in printed.out
    assert "run_4.npz:\n" in printed.out
    assert "speed () float64: 4 to 4" in printed.out
    options = _proposed(printed.out)
    assert options == {"path": str(tmp_path / "own data"), "inputs": "speed", "targets": "pressure,velocity"}
    assert set(options) <= set(custom.get_config().data)
    dataset = load_dataset("custom", tmp_path, source="files", num_generate=1, n_train=0, n_test=0, options=options)
    assert dataset.channels.targets == {"pressure": 1, "velocity": 2}
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    # The options of the training are those of the look at the whole set.
    flags = [f"--config.data.{name}={value}" for name, value in options.items()]
    assert inspect.main(["custom", f"--data_dir={tmp_path}", f"--out={tmp_path / 'b.png'}", *flags]) == 0


def test_steps_of_cases(tmp_path, capsys):
    """Files of a case whose names differ in a number are steps, with which a rollout can be trained."""
    folder = write_series(tmp_path / "own", 3)
    status, printed = _inspect(capsys, tmp_path, folder)
    assert status == 0
    options = _proposed(printed.out)
    assert options == {"path": str(folder), "inputs": "wall,rate", "targets": "heat,flow", "time": "rollout"}
    dataset = load_dataset("custom", tmp_path, source="files", num_generate=1, n_train=0, n_test=0, options=options)
    assert dataset.kind == "mesh_series"
    (folder / "case_1" / "other.npz").write_bytes((folder / "case_1" / "step_0.npz").read_bytes())
    status, printed = _inspect(capsys, tmp_path, folder)
    assert status == 2
    assert "of which each may be the sample" in printed.err


def test_fields_are_inputs_or_targets_by_name_and_values(tmp_path):
    arrays = sample(0, 40, 3)
    arrays["xyz"] = arrays.pop("points")
    marks = {"inlet": np.arange(40) % 2, "normals": np.ones((40, 3)), "S:Mises": np.arange(40.0), "ids": np.arange(40)}
    np.savez(tmp_path / "a.npz", **arrays, **marks, history=np.arange(500.0), note=np.array("text"))
    proposal, _ = propose(tmp_path, Reference(tmp_path / "a.npz"))
    assert proposal.options == {
        "path": str(tmp_path), "points": "xyz", "inputs": "speed,inlet,normals", "targets": "pressure,velocity,S:Mises"
    }  # fmt: skip


def test_meshes(tmp_path, capsys):
    pv = pytest.importorskip("pyvista")
    points = np.pad(sample(0)["points"], [(0, 0), (0, 1)])
    mesh = pv.PolyData(points, faces=np.insert(CELLS, 0, 3, axis=1).ravel())
    mesh.cell_data["c"] = [2.0, 3.0]
    mesh.field_data["angle"] = [0.5]
    mesh.save(tmp_path / "a.vtp")
    status, printed = _inspect(capsys, tmp_path, tmp_path / "a.vtp")
    assert status == 0, printed.err
    assert "holds 1 sample\n" in printed.out
    assert "mesh of type PolyData: 6 points, 2 cells, whose centres are the points\n" in printed.out
    assert printed.out.count("c (2,) float64: 2 to 3\n") == 1
    assert _proposed(printed.out) == {"path": str(tmp_path), "inputs": "angle", "targets": "c", "cell_data": "centres"}
    del mesh.cell_data["c"]
    mesh.save(tmp_path / "a.vtp")
    assert "no field at the points is left to predict" in _inspect(capsys, tmp_path, tmp_path / "a.vtp")[1].out


@pytest.mark.parametrize(
    ("arrays", "arguments", "words"),
    [
        ({"p": np.arange(5.0)}, (), "none of which is [N, 2] or [N, 3] as coordinates are"),
        (sample(0), ("--case=3",), "--case=3 is no sample; choose one of 0 to 0"),
        (
            sample(0),
            ("--set=targets=p",),
            "to see {path} with it, name custom in its place and add --config.data.path={path}",
        ),
    ],
)
def test_refusals_are_one_sentence(tmp_path, capsys, arrays, arguments, words):
    np.savez(tmp_path / "a.npz", **arrays)
    status, printed = _inspect(capsys, tmp_path, tmp_path / "a.npz", *arguments)
    assert status == 2
    assert words.format(path=tmp_path / "a.npz") in printed.err
    assert printed.err.count("\n") == 1


def test_series_whose_times_are_known(tmp_path, capsys):
    """Their number is that of whole series, which are divided among the splits."""
    folder = write_series(tmp_path / "own", 3)
    for case in range(3):
        steps = [{"name": f"step_{number}.npz", "time": 0.5 * number} for number in range(4)]
        (folder / f"case_{case}" / "all.npz.series").write_text(json.dumps({"files": steps}))
    status, printed = _inspect(capsys, tmp_path, folder)
    assert status == 0
    assert "holds 12 samples, the steps of 3 series, of which a tenth will be drawn as tests" in printed.out
    assert _proposed(printed.out)["time"] == "rollout"


def test_fields_at_cells_and_pieces_of_material(tmp_path, capsys):
    pv = pytest.importorskip("pyvista")
    mesh = pv.ImageData(dimensions=(12, 11, 1)).cast_to_unstructured_grid()
    mesh.point_data["T"] = np.arange(132.0)
    mesh.point_data["all"] = np.ones(132)
    mesh.cell_data["k"] = np.where(np.arange(110) < 40, 0.5, 2.5)
    mesh.save(tmp_path / "a.vtu")
    status, printed = _inspect(capsys, tmp_path, tmp_path / "a.vtu")
    assert status == 0
    assert "k are at the cells and left out: --config.data.cell_data=nodes averages them" in printed.out
    assert _proposed(printed.out) == {"path": str(tmp_path), "targets": "T"}
    status, printed = _inspect(capsys, tmp_path, tmp_path / "a.vtu", "--config.data.cell_data=centres")
    assert _proposed(printed.out) == {"path": str(tmp_path), "inputs": "k", "targets": "T", "cell_data": "centres"}
    status, printed = _inspect(capsys, tmp_path, tmp_path / "a.vtu", "--config.data.cell_data=edges")
    assert status == 2
    assert "data.cell_data='edges' is not known" in printed.err

"""Hidden files (`._case.npz`, which archives of other systems hold) are samples in no loader of fields."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.errors import DataError
from data_pipeline.files import matching
from data_pipeline.pde import drivaerml, lpbf, shapenet_car
from data_pipeline.registry import DATASETS
from tests.data_pipeline import fake_files
from tests.data_pipeline.custom.files import write_npz
from tests.data_pipeline.custom.test_loader import load as load_own


def hide_beside(path: Path) -> None:
    path.with_name(f"._{path.name}").write_bytes(b"\x00\x05\x16\x07")


def test_matching_names(tmp_path):
    for name in ("b.npz", "a.npz", "._a.npz", ".hidden/c.npz", "shown/d.npz", "shown/.e.npz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in matching(tmp_path, "*.npz")] == ["a.npz", "b.npz"]
    assert [path.name for path in matching(tmp_path, "*/*.npz")] == ["d.npz"]
    assert matching(tmp_path / "absent", "*") == []


def test_a_hidden_folder_above_is_no_reason(tmp_path):
    (tmp_path / ".data").mkdir()
    (tmp_path / ".data" / "a.npz").touch()
    assert len(matching(tmp_path / ".data", "*.npz")) == 1


def test_lpbf(tmp_path):
    fake_files.write_lpbf(tmp_path, {"train": (4, 5), "test": (3,)})
    for path in (tmp_path / lpbf.RECORD.folder).glob("*/*.npz"):
        hide_beside(path)
    assert len(lpbf.load(tmp_path, 2, 1).train) == 2
    with pytest.raises(DataError, match="holds 2 samples"):
        lpbf.load(tmp_path, 3, 1)


def test_drivaerml(tmp_path, monkeypatch):
    monkeypatch.setitem(drivaerml.SIZES, "10k", 6)
    fake_files.write_drivaerml(tmp_path, "10k", 6, {"train": (1, 2), "test": (3,)})
    folder = tmp_path / DATASETS["drivaerml_10k"].folder
    for path in folder.glob("*/*.npz"):
        hide_beside(path)
    assert len(drivaerml.load(tmp_path, 2, 1, size="10k").train) == 2


def test_shapenet_car(tmp_path):
    folder = tmp_path / shapenet_car.RECORD.folder
    for number, part in enumerate(shapenet_car.RECORD.files):
        fake_files.write_car(folder / part / f"case{number}", number)
        shutil.copytree(folder / part / f"case{number}", folder / part / f".case{number}")
    assert len(shapenet_car.case_folders(folder)) == 9


def test_own_files(tmp_path):
    write_npz(tmp_path, {"train": (6, 6), "test": (6,)})
    expected = load_own(tmp_path, tmp_path)
    for path in tmp_path.glob("*/*.npz"):
        hide_beside(path)
    np.testing.assert_array_equal(load_own(tmp_path, tmp_path).train.x, expected.train.x)

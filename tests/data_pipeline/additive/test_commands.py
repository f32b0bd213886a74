"""From generated archives to a data set that trains: every command of data_pipeline.additive, and what it says."""

import json
import shutil
import sys
import zipfile

import numpy as np
import pyarrow.parquet
import pytest

from data_pipeline.additive import extraction
from data_pipeline.additive.__main__ import main
from data_pipeline.additive.case import read_final, read_series
from data_pipeline.additive.ensight import all_fields
from data_pipeline.additive.generate import dataset
from data_pipeline.additive.generate.export import surface_of
from data_pipeline.additive.generate.octree import Resolution
from data_pipeline.additive.generate.parts import random_part
from data_pipeline.additive.graph import edges
from data_pipeline.additive.statistics import STATISTICS, from_csv
from data_pipeline.additive.stl import read_stl
from data_pipeline.errors import DataError
from data_pipeline.generate import generate
from data_pipeline.registry import find_record

COARSE = Resolution(25)
INDICES = (3, 10, 24)  # parts of two groups each


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Return a zip archive with three good simulations and three that fail."""
    folder = tmp_path_factory.mktemp("archive")
    path = folder / "data_0-100.zip"
    with zipfile.ZipFile(path, "w") as whole:
        for index in INDICES:
            name, content = dataset.solve_archive(0, index, COARSE)
            (folder / "one.zip").write_bytes(content)
            with zipfile.ZipFile(folder / "one.zip") as one:
                for member in one.namelist():
                    data = one.read(member)
                    whole.writestr(member, data)
                    if index == INDICES[0] and not member.endswith("_6.dis.ens"):
                        whole.writestr(member.replace(name, "b_lost_field"), data)
                    if index == INDICES[0] and member.endswith("_4.geo"):
                        whole.writestr(f"SandBox/c_log_only/results/{name}_4.geo", data)
        whole.writestr(
            "SandBox/a_failed/mechanical.out", "temperature 25 \u00b5K\nAnalysis terminated".encode("latin-1")
        )
    return path


@pytest.fixture(scope="module")
def extracted(archive, tmp_path_factory):
    """Return the folder of the extracted and merged cases."""
    out = tmp_path_factory.mktemp("extracted")
    assert main(["extract", f"--source={archive}", f"--out={out}", "--series"]) == 1
    assert main(["merge", f"--data={out}"]) == 0
    return out


def test_failures_have_reasons_and_the_rest_goes_on(extracted, archive, capsys):
    failures = json.loads((extracted / "failures.json").read_text())
    assert list(failures) == ["a_failed", "b_lost_field", "c_log_only"]
    assert "was terminated" in failures["a_failed"]
    assert "lacks the file SandBox/b_lost_field/results/b_lost_field_mechanical00_6.dis.ens" in failures["b_lost_field"]
    assert "has no case file" in failures["c_log_only"]
    names = [path.stem for path in sorted((extracted / "final").glob("*.npz"))]
    assert names == sorted(dataset.case_name(random_part(0, i, COARSE)[0], 0, i) for i in INDICES)
    assert json.loads((extracted / "series.json").read_text()) == dict.fromkeys(names, 2)
    assert main(["extract", f"--source={archive}", f"--out={extracted}", "--series"]) == 1
    assert "0 cases extracted" in capsys.readouterr().out


def test_what_is_extracted_is_what_was_simulated(extracted):
    final, series = dataset.solve_part(0, INDICES[0], COARSE)
    read = read_final(extracted / "final" / f"{final.name}.npz")
    order = {tuple(np.float32(p)): row for row, p in enumerate(final.pos)}
    rows = [order[tuple(p)] for p in read.pos]
    np.testing.assert_allclose(read.disp, final.disp[rows], atol=1e-6)
    np.testing.assert_array_equal(read.edge_index, edges(read.elems))
    steps = extraction.read_steps(extracted / "steps" / f"{final.name}.npz")
    assert not np.allclose(steps[0].disp[:8], steps[1].disp[:8])
    merged = read_series(extracted / "series" / f"{final.name}.npz")
    place = {tuple(np.round(p, 4)): row for row, p in enumerate(series.pos)}
    rows = [place[tuple(np.round(p.astype(float), 4))] for p in merged.pos]
    np.testing.assert_allclose(merged.times, series.times, rtol=1e-6)
    for name in ("disp", "vmstr", "temp"):
        expected = getattr(series, name)[:, rows]
        np.testing.assert_allclose(getattr(merged, name), expected, atol=1e-4 * np.abs(expected).max())


def test_all_fields_of_the_simulation_are_there(extracted):
    path = next((extracted / "final").glob("*.npz"))
    with np.load(path, allow_pickle=False) as arrays:
        fields = {name: arrays[name] for name in arrays.files}
    derived = all_fields(fields["cauchy_stress"])
    np.testing.assert_allclose(fields["vmstr"], derived["vmstr"], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(fields["min_stress"], derived["min_stress"], rtol=1e-4, atol=1e-3)
    assert fields["recoater_status"].min() >= 0
    shear = 110e3 / 2 / 1.34
    np.testing.assert_allclose(fields["strain"][:, 3:] * shear, fields["cauchy_stress"][:, 3:], rtol=1e-3, atol=1e-2)
    assert {"stl_verts", "stl_faces", "mid_dir"} <= fields.keys()


def test_statistics_filter_features_and_index(extracted, tmp_path, capsys):
    data = tmp_path / "am"
    shutil.copytree(extracted, data)
    assert main(["statistics", f"--data={data}"]) == 0
    names, table = from_csv((data / "dataset_statistics.csv").read_text(), "table")
    assert list(table) == list(STATISTICS)
    assert all((data / f"dataset_statistics.{suffix}").stat().st_size > 200 for suffix in ("txt", "png", "pdf"))
    final = read_final(data / "final" / f"{names[0]}.npz")
    assert table["num_vertices"][0] == len(final.pos)
    assert table["max_disp"][0] == pytest.approx(final.disp[:, 2].max(), rel=1e-6)
    limit = sorted(table["max_disp"])[1]
    listed = tmp_path / "include.txt"
    arguments = ["filter", f"--statistics={data}/dataset_statistics.csv", f"--out={listed}"]
    assert main([*arguments, f"--max_disp={limit}"]) == 0
    assert "2 of 3 parts kept" in capsys.readouterr().out
    assert main(["features", f"--data={data}"]) == 0
    with np.load(data / "features" / f"{names[0]}.npz") as features:
        assert features["features"].shape == (len(final.pos), 11)
        assert features["normalized"].shape == (len(final.pos), 10)
    out = tmp_path / "root" / "LPBF_FLARE"
    out.parent.mkdir()
    assert main(["index", f"--data={data}", f"--out={out}", f"--include={listed}"]) == 0
    loaded = find_record("lpbf").load(tmp_path / "root", 1, 1)
    assert loaded.source.kind == "generated"
    series = find_record("am_series").load(tmp_path / "root", 1, 1)
    assert series.sample_names == loaded.sample_names
    index = json.loads((out / "index.json").read_text())
    assert index["train"][0]["case_id"] == loaded.sample_names["train"][0]
    assert json.loads(index["test"][0]["metadata"])["generated"] is True
    tables = {split: pyarrow.parquet.read_table(out / "data" / f"{split}-00000-of-00001.parquet") for split in index}
    assert {split: table.to_pylist() for split, table in tables.items()} == index
    assert str(tables["train"].schema.field("num_edges").type) == "int64"
    assert main(["index", f"--data={data}", f"--out={out}"]) == 2
    assert "is not empty, and nothing in it is replaced" in capsys.readouterr().err


def test_damaged_files_are_listed(extracted, tmp_path, capsys):
    data = tmp_path / "am"
    shutil.copytree(extracted, data)
    broken = next((data / "final").glob("*.npz"))
    broken.write_bytes(broken.read_bytes()[:1000])
    assert main(["statistics", f"--data={data}"]) == 1
    assert f"{broken.stem}: " in capsys.readouterr().out
    assert main(["features", f"--data={data}"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["extract", "--source=none.zip", "--out={}"], "none.zip does not exist"),
        (["extract", "--source={}", "--out={}/o"], "holds neither zip archives nor a folder SandBox"),
        (["merge", "--data={}"], "holds no series; extract them with --series first"),
        (["statistics", "--data={}"], "holds no final states"),
        (["filter", "--statistics={}/a.csv"], "a.csv cannot be read"),
        (["index", "--data={}", "--out={}/new"], "holds no final states"),
        (["generate", "--out={}", "--num=1", "--resolution=30"], "resolution=30 must be one of 25, 50, 100"),
    ],
)
def test_refusals_are_one_sentence(arguments, message, tmp_path, capsys):
    assert main([part.format(tmp_path) for part in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_surface_of_voxels_is_closed_and_encloses_them():
    _, voxels = random_part(0, INDICES[0], COARSE)
    points, faces = surface_of(voxels)
    corners = points[faces]
    volume = np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
    assert volume == pytest.approx(voxels.filled.sum() * np.prod(voxels.cell))
    with pytest.raises(DataError, match="do not fit its"):
        read_stl(b" " * 80 + np.uint32(3).tobytes() + b"x" * 60, "a.stl")


def test_generated_files_have_the_published_layout(tmp_path):
    folder = generate("lpbf", tmp_path, num=2, workers=1, progress=False, resolution=25)
    files = sorted(folder.glob("*/*.npz"))
    assert [path.parent.name for path in files] == ["test", "train"]
    with np.load(files[1], allow_pickle=False) as part:
        assert {name: (part[name].ndim, part[name].dtype.name) for name in part.files if name != "_metadata"} == {
            "pos": (2, "float32"), "elems": (2, "int32"), "edge_index": (2, "int64"),
            "disp": (2, "float32"), "vmstr": (2, "float32"), "temp": (2, "float32"),
        }  # fmt: skip
        metadata = json.loads(part["_metadata"][0])
        assert part["pos"][:, 2].min() == 0
        assert (part["temp"] == 25).all()
    name = files[1].stem.split("_", 1)[1]
    assert metadata == {"metadata": {"case_name": name, "zmax": None, "time_steps": 1}, "generated": True}
    expected, _ = dataset.solve_part(0, 0, COARSE)
    np.testing.assert_allclose(read_final(files[1]).disp, expected.disp, atol=1e-6)
    loaded = find_record("lpbf").load(tmp_path, 1, 1)
    assert loaded.source.kind == "generated"
    assert loaded.tests["test"].x.shape[2] == 3
    series = sorted((folder / "series").glob("*/*.npz"))
    assert [path.name for path in series] == [path.name for path in files]


def test_parts_are_equal_in_every_run_and_stand_on_the_plate():
    for index in range(4):
        kind, voxels = random_part(1, index, COARSE)
        again = random_part(1, index, COARSE)
        assert again[0] == kind
        np.testing.assert_array_equal(again[1].filled, voxels.filled)
        assert voxels.filled[:, :, 0].any()
        assert max(np.array(voxels.filled.shape) * voxels.cell) <= 60.001


class _Malicious:
    """What a file could do to a reader that unpickles its metadata."""

    def __init__(self, target):
        self._target = str(target)

    def __reduce__(self):
        return open, (self._target, "w")


def test_metadata_of_published_files_is_never_unpickled(tmp_path):
    """The public files hold their metadata as a pickled object."""
    folder = tmp_path / "LPBF_FLARE"
    final, _ = dataset.solve_part(0, INDICES[0], COARSE)
    arrays = final.arrays() | {"_metadata": np.array([_Malicious(tmp_path / "executed")], object)}
    for split in ("train", "test"):
        (folder / split).mkdir(parents=True)
        np.savez(folder / split / "case00000_part.npz", **arrays)
    loaded = find_record("lpbf").load(tmp_path, 1, 1, edges=True)
    np.testing.assert_allclose(loaded.train.y[0, :, 0], final.disp[:, 2], atol=1e-7)
    np.testing.assert_array_equal(read_final(folder / "train" / "case00000_part.npz").elems, final.elems)
    assert main(["statistics", f"--data={folder}"]) == 0
    assert not (tmp_path / "executed").exists()


def test_without_pyarrow_the_index_has_no_tables_and_says_so(extracted, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    out = tmp_path / "LPBF_FLARE"
    assert main(["index", f"--data={extracted}", f"--out={out}"]) == 0
    assert "no tables in data/: they need pyarrow (pip install pyarrow)" in capsys.readouterr().out
    assert (out / "index.json").exists()
    assert not (out / "data").exists()

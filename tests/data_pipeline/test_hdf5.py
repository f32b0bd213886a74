"""HDF5 files that lead elsewhere, claim too much or are damaged: refused by every reader, in one sentence."""

import ast
from pathlib import Path

import h5py
import numpy as np
import pytest

from data_pipeline import hdf5
from data_pipeline.custom.readers import Reference, list_groups, read_sample
from data_pipeline.custom.sample import parse_fields
from data_pipeline.errors import DataError
from data_pipeline.matlab import mat_shape, read_mat
from data_pipeline.sequence.cache import cached, read_arrays
from data_pipeline.streaming.cache import build_cache
from data_pipeline.vtk import read_mesh

ROOT = Path(__file__).parents[2]


def write_evil(path: Path, name: str, evil: str) -> None:
    """Write a file with the array `points` and, called `name`, something that no reader may follow."""
    secret = path.with_name("secret.bin")
    secret.write_bytes(np.arange(6.0).tobytes())
    with h5py.File(path.with_name("other.h5"), "w") as file:
        file["there"] = np.arange(6.0).reshape(3, 2)
    layout = h5py.VirtualLayout((3, 2), float)
    with h5py.File(path, "w") as file:
        if name != "points":
            file["points"] = np.random.default_rng(0).random((3, 2))
        match evil:
            case "external link":
                file[name] = h5py.ExternalLink("other.h5", "/there")
            case "soft link to an external link":
                file["hop"] = h5py.ExternalLink("other.h5", "/")
                file[name] = h5py.SoftLink("/hop/there")
            case "external storage":
                file.create_dataset(name, (3, 2), float, external=[(str(secret), 0, 48)])
            case "virtual dataset":
                layout[:] = h5py.VirtualSource("other.h5", "there", (3, 2))
                file.create_virtual_dataset(name, layout)
            case "virtual dataset of itself":
                layout[:] = h5py.VirtualSource(".", name, (3, 2))
                file.create_virtual_dataset(name, layout)
            case "loop":
                file[name] = h5py.SoftLink(f"/{name}")
            case "loop of two":
                file["hop"] = h5py.SoftLink(f"/{name}")
                file[name] = h5py.SoftLink("/hop")
            case "dangling link":
                file[name] = h5py.SoftLink("/nowhere")
            case "huge array without values":
                file.create_dataset(name, (10**12, 2), float)
            case "huge compressed array":
                file.create_dataset(name, (10**12, 2), float, chunks=(1000, 2), compression="gzip")
            case "text":
                file[name] = "text"
            case "objects":
                file.create_dataset(name, (3,), h5py.ref_dtype)
            case "nothing":
                file[name] = h5py.Empty("f4")


EVILS = {
    "external link": "outside of this file; copy",
    "soft link to an external link": "outside of this file; copy",
    "external storage": "keeps its values in another file",
    "virtual dataset": "a virtual dataset",
    "virtual dataset of itself": "a virtual dataset",
    "loop": "reached through a link",
    "loop of two": "reached through a link",
    "dangling link": "which is not there",
    "huge array without values": "claims 16000000000000 bytes, but the file holds 0",
    "huge compressed array": "claims 16000000000000 bytes, but the file holds 0",
    "text": "dtype object",
    "objects": "dtype object",
    "nothing": "is empty",
}
READERS = {
    "custom": lambda path, name: read_sample(Reference(path), parse_fields("points", "", name)),
    "cache of tokens": lambda path, name: read_arrays(path, [name]),
    "MATLAB": lambda path, name: read_mat(path, name, (2, 3)),
}


@pytest.mark.parametrize("evil", EVILS)
def test_no_reader_follows(tmp_path, evil):
    path = tmp_path / "evil.h5"
    write_evil(path, "field", evil)
    for read in READERS.values():
        with pytest.raises(DataError, match=f"evil.h5.*{EVILS[evil]}|has shape|lacks 'field'"):
            read(path, "field")
    with pytest.raises(DataError, match=EVILS[evil]), hdf5.open_hdf5(path) as file:
        hdf5.read_array(hdf5.arrays(file)["field"])


@pytest.mark.parametrize("evil", ["external link", "soft link to an external link", "loop", "dangling link"])
def test_samples_and_shapes_behind_links(tmp_path, evil):
    write_evil(tmp_path / "evil.h5", "train", evil)
    for look in (list_groups, lambda path: mat_shape(path, "train")):
        with pytest.raises(DataError, match=EVILS[evil]):
            look(tmp_path / "evil.h5")


def test_links_within_the_file_are_followed(tmp_path):
    path = tmp_path / "links.h5"
    with h5py.File(path, "w") as file:
        file["all/run_1/points"] = np.zeros((4, 2))
        file["all/run_1/field"] = np.arange(4.0)
        file["train/a"] = h5py.SoftLink("/all/run_1")
        file["train/b"] = file["all/run_1"]
        file["all/run_1/up"] = file["/"]  # a loop of true links
    assert list_groups(path)["train"] == ["train/a", "train/b"]
    sample = read_sample(Reference(path, "train/a"), parse_fields("points", "", "field"))
    np.testing.assert_array_equal(np.ravel(sample.targets["field"]), np.arange(4.0))


def test_our_caches_do_not_follow_either(tmp_path):
    write_evil(tmp_path / "cache.h5", "tokens", "external link")
    with h5py.File(tmp_path / "cache.h5", "a") as file:
        file.attrs["key"] = "right"
    built = cached(tmp_path / "cache.h5", "right", lambda: {"tokens": np.arange(3)})
    np.testing.assert_array_equal(built["tokens"], np.arange(3))
    folder = tmp_path / "cache"
    folder.mkdir()
    write_evil(folder / "shard_00000.h5", "entries", "external link")
    assert len(build_cache(folder, 2, lambda row: {"x": np.full((3, 1), row, np.float32)})) == 2


def test_compressed_arrays_of_zeros_are_no_claim(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("zeros", data=np.zeros(2**22, np.float32), compression="gzip", chunks=(2**20,))
    assert read_arrays(tmp_path / "a.h5", ["zeros"])["zeros"].shape == (2**22,)


def test_flipped_bytes_are_sentences(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for group in ("train/a", "test/a"):
            file[f"{group}/points"] = np.random.default_rng(0).random((5, 2))
            file.create_dataset(f"{group}/field", data=np.arange(5.0), chunks=(2,), compression="gzip")
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(1)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(200):
        damaged = whole.copy()
        places = rng.integers(len(whole), size=4)
        damaged[places] = rng.integers(256, size=4)
        path.write_bytes(damaged.tobytes())
        try:
            for group in list_groups(path).get("train", []):  # it may have got another name
                read_sample(Reference(path, group), parse_fields("points", "", "field"))
            outcomes["read"] += 1
        except DataError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 20, outcomes


def opens_for_reading(source: str) -> bool:
    """Whether a module calls `h5py.File` with another mode than "w"."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)] if "File(" in source else []
    opens = [call for call in calls if ast.unparse(call.func) in ("h5py.File", "File")]
    return any(len(call.args) < 2 or ast.unparse(call.args[1]) != "'w'" for call in opens)


def test_one_function_opens_files_for_reading():
    packages = ("data_pipeline", "flare_jax", "experiments", "benchmarks", "configs", "kernels")
    files = [file for package in packages for file in (ROOT / package).rglob("*.py")]
    found = [str(file.relative_to(ROOT)) for file in files if opens_for_reading(file.read_text())]
    assert found == ["data_pipeline/hdf5.py"]


MESH = """<Xdmf Version="3.0"><Domain><Grid>
<Geometry GeometryType="XY">
<DataItem DataType="Float" Dimensions="3 2" Format="HDF" Precision="8">{}</DataItem></Geometry>
<Topology TopologyType="Triangle" NumberOfElements="1">
<DataItem DataType="Int" Dimensions="1 3" Format="XML" Precision="8">0 1 2</DataItem></Topology>
</Grid></Domain></Xdmf>"""


def test_arrays_of_xdmf_meshes(tmp_path):
    path = tmp_path / "a.xdmf"
    write_evil(tmp_path / "evil.h5", "field", "external link")
    path.write_text(MESH.format("evil.h5:/points"))
    assert read_mesh(path).points.shape == (3, 3)
    for place, words in {
        "evil.h5:/field": "outside of this file",
        f"{tmp_path}/other.h5:/there": "put that file beside it",
        "../other.h5:/there": "put that file beside it",
        "none.h5:/there": "does not exist",
        "evil.h5:/nowhere": "which holds none",
    }.items():
        path.write_text(MESH.format(place))
        with pytest.raises(DataError, match=words):
            read_mesh(path)
    path.write_text("<a>" * 100_000)
    with pytest.raises(DataError, match="cannot be read as a mesh"):
        read_mesh(path)


@pytest.mark.parametrize("evil", [evil for evil in EVILS if evil.startswith(("ext", "virt", "soft"))])
def test_whole_files_that_lead_elsewhere(tmp_path, evil):
    write_evil(tmp_path / "evil.h5", "deep", evil)
    with h5py.File(tmp_path / "evil.h5", "a") as file:
        for number in range(40):  # each group twice in the one before, and the first in the last
            file.create_group(f"g{number}")
        for number in range(39):
            file[f"g{number}/a"] = file[f"g{number}/b"] = file[f"g{number + 1}"]
        file["g39/a"] = file["g0"]
    with pytest.raises(DataError, match=EVILS[evil]), hdf5.open_hdf5(tmp_path / "evil.h5") as file:
        hdf5.check_inside(file)
    with h5py.File(tmp_path / "evil.h5", "a") as file:
        del file["deep"]
        if "hop" in file:
            del file["hop"]
    with hdf5.open_hdf5(tmp_path / "evil.h5") as file:
        hdf5.check_inside(file)


@pytest.mark.parametrize("name", ["/etc/part.vtu", "../part.vtu", "a/../../part.vtu"])
def test_parts_of_meshes_in_other_folders(tmp_path, name):
    pytest.importorskip("pyvista")
    content = (
        f"<VTKFile type='PUnstructuredGrid'><PUnstructuredGrid><Piece Source='{name}'/></PUnstructuredGrid></VTKFile>"
    )
    (tmp_path / "a.pvtu").write_text(content)
    (tmp_path / "a.vtm").write_text(f'<VTKFile type="x"><x><DataSet index="0" file="{name}"/></x></VTKFile>')
    for suffix in (".pvtu", ".vtm"):
        with pytest.raises(DataError, match="outside of its folder"):
            read_mesh(tmp_path / f"a{suffix}")

"""Public sets from a local server and a local folder: interrupted, truncated, wrong and hostile files."""

import hashlib
import io
import json
import re
import tarfile
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest

from data_pipeline.download import __main__ as command
from data_pipeline.download import fetch, transfer
from data_pipeline.download.sources import Remote
from data_pipeline.download.unpack import unpack
from data_pipeline.errors import DataError
from tests.data_pipeline.download.archives import geo_archive, npy, tar_of
from tests.data_pipeline.download.server import Files, serving


@pytest.fixture(scope="module")
def geo():
    """An archive of the published name and layout, with elasticity alone, incompressible."""
    return geo_archive()


def run(tmp_path, *arguments):
    return command.main([*arguments, f"--data_dir={tmp_path / 'data'}"])


def served(geo, **options):
    return serving(Files({"/Geo-FNO.tar.gz": geo}, **options))


def test_a_set_is_fetched_unpacked_checked_and_recorded(tmp_path, geo, capsys):
    with served(geo) as files:
        assert run(tmp_path, "elasticity", f"--mirror={files.address}/") == 0
        folder = tmp_path / "data" / "Geo-FNO"
        record = json.loads((folder / "DOWNLOAD.json").read_text())["Geo-FNO.tar.gz"]
        assert record == {
            "source": f"{files.address}/Geo-FNO.tar.gz",
            "bytes": len(geo),
            "sha256": hashlib.sha256(geo).hexdigest(),
        }
        assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["Geo-FNO"]
        assert run(tmp_path, "elasticity", f"--mirror={files.address}") == 0
        assert len(files.seen) == 1
    assert "elasticity: already in" in capsys.readouterr().out


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_transfer_goes_on(tmp_path, geo, ranges):
    with served(geo, breaks=[1000, 3000], ranges=ranges) as files:
        assert run(tmp_path, "elasticity", f"--mirror={files.address}") == 0
        assert files.seen == [None, "bytes=1000-", f"bytes={4000 if ranges else 3000}-"]


def test_what_was_received_is_kept_for_the_next_command(tmp_path, geo, capsys):
    with served(geo, breaks=[100] * 5) as files:
        assert run(tmp_path, "elasticity", f"--mirror={files.address}") == 2
        assert "500 bytes are kept in" in capsys.readouterr().err
        assert run(tmp_path, "elasticity", f"--mirror={files.address}") == 0
        assert files.seen[5] == "bytes=500-"


def test_other_content_under_the_same_address_is_fetched_anew(tmp_path, geo):
    with served(geo, breaks=[100] * 5, etag='"old"') as files:
        assert run(tmp_path, "elasticity", f"--mirror={files.address}") == 2
        files.etag = '"new"'
        assert run(tmp_path, "elasticity", f"--mirror={files.address}") == 0


def test_a_server_that_tells_no_version_is_asked_for_all(tmp_path, geo):
    with served(geo, breaks=[1000], etag=None) as files:
        assert run(tmp_path, "elasticity", f"--mirror={files.address}") == 0
        assert files.seen == [None, None]


def test_files_that_are_not_what_they_should_be(tmp_path, geo, capsys):
    shapes = tar_of(
        {
            "elasticity/Meshes/Random_UnitCell_XY_10.npy": npy(np.zeros((5, 2, 3))),
            "elasticity/Meshes/Random_UnitCell_sigma_10.npy": npy(np.zeros((5, 3))),
        }
    )
    cases = (
        (b"<!DOCTYPE html><title>Sign in</title>", "is cut off or no archive .* begins with b'<!DOCTYPE html>"),
        (geo[: len(geo) // 2], "Geo-FNO.tar.gz is cut off or no archive"),
        (b"", "Geo-FNO.tar.gz is cut off or no archive"),
        (shapes, "has shape .* is expected"),
        (tar_of({"readme.txt": b"moved"}), "what was received does not hold the files of elasticity"),
    )
    for number, (content, words) in enumerate(cases):
        mirror = tmp_path / f"mirror{number}"
        mirror.mkdir()
        (mirror / "Geo-FNO.tar.gz").write_bytes(content)
        assert run(tmp_path / str(number), "elasticity", f"--mirror={mirror}") == 2
        error = capsys.readouterr().err
        assert re.search(words, error), error
        assert error.count("error: ") == 1
        (mirror / "Geo-FNO.tar.gz").write_bytes(geo)
        # What is no archive is fetched again; what was unpacked stays, and is refused as before.
        again = run(tmp_path / str(number), "elasticity", f"--mirror={mirror}")
        assert again == (2 if content is shapes else 0)
        capsys.readouterr()
    assert run(tmp_path, "elasticity", f"--mirror={tmp_path / 'nowhere'}") == 2
    assert "the mirror lacks" in capsys.readouterr().err
    assert run(tmp_path, "elasticity", "--mirror=ftp://host/files") == 2
    assert "ftp://host/files is neither a folder nor an address that begins with http://" in capsys.readouterr().err
    with serving(Files({})) as files:
        assert run(tmp_path, "elasticity", f"--mirror={files.address}") == 2
        assert "HTTP 404" in capsys.readouterr().err
    assert run(tmp_path, "elasticity", f"--mirror={files.address}") == 2
    assert "could not be fetched whole" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil"])
def test_archives_that_leave_their_folder_write_nothing(tmp_path, name):
    (tmp_path / "in").mkdir()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("good", "x")
        archive.writestr(name, "x")
    for file, content in (("a.tar.gz", tar_of({"good": b"x", name: b"x"})), ("a.zip", buffer.getvalue())):
        (tmp_path / "in" / file).write_bytes(content)
        if name.startswith("/") and file == "a.tar.gz":
            continue  # tarfile takes such a name as one below the folder
        with pytest.raises(DataError, match="holds a place or link outside of its folder"):
            unpack(tmp_path / "in" / file, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_links_out_of_the_folder_are_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        member = tarfile.TarInfo("link")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(member)
    with pytest.raises(DataError, match="outside of its folder"):
        unpack(tmp_path / "a.tar", tmp_path / "out")


def test_archives_within_archives(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("mlcfd_data/training_data/param0.tar.gz", tar_of({"param0/case/press.npy": b"1"}))
        archive.writestr("mlcfd_data/notes.txt", "x")
    (tmp_path / "a.zip").write_bytes(buffer.getvalue())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    unpack(tmp_path / "a.zip", tmp_path / "out", "param*.tar.gz")
    files = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    inside = "mlcfd_data/training_data/param0/case/press.npy"
    assert files == {"old", "mlcfd_data/notes.txt", inside}


def test_a_full_disk_and_generated_data_are_refused(tmp_path, geo, capsys, monkeypatch):
    place = tmp_path / "data" / "Geo-FNO" / "pipe"
    place.mkdir(parents=True)
    (place / "SOURCE.json").write_text("{}")
    with served(geo) as files:
        assert run(tmp_path, "elasticity", f"--mirror={files.address}") == 2
        assert "Geo-FNO/pipe holds generated data; use another --data_dir" in capsys.readouterr().err
        monkeypatch.setattr(transfer.shutil, "disk_usage", lambda folder: SimpleNamespace(free=len(geo)))
        assert run(tmp_path / "b", "elasticity", f"--mirror={files.address}") == 2
        assert "GiB left, but this needs" in capsys.readouterr().err


def test_a_published_sum_is_compared(tmp_path):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(b"other")
    with pytest.raises(DataError, match=r"has the MD5 sum \w+, but abc is published; it was removed"):
        fetch._check_sum(Remote("a.tar.gz", "http://x/a.tar.gz", md5="abc"), path)
    assert not path.exists()


def test_sets_of_loose_files_and_whole_repositories(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fetch, "check", lambda name, data_dir: None)
    parts = ("meta.json", "train.tfrecord", "valid.tfrecord", "test.tfrecord")
    with serving(Files({f"/cylinder_flow/{name}": name.encode() for name in parts})) as files:
        assert run(tmp_path, "cylinder_flow", f"--mirror={files.address}") == 0
    folder = tmp_path / "data" / "MeshGraphNets" / "cylinder_flow"
    assert {path.name for path in folder.iterdir()} == {*parts, "DOWNLOAD.json"}
    for split in ("train", "test"):
        (tmp_path / "mirror" / "LPBF_FLARE" / split).mkdir(parents=True)
        (tmp_path / "mirror" / "LPBF_FLARE" / split / "a.npz").write_bytes(b"a")
    assert run(tmp_path, "lpbf", f"--mirror={tmp_path / 'mirror'}") == 0
    assert (tmp_path / "data" / "LPBF_FLARE" / "train" / "a.npz").read_bytes() == b"a"
    assert run(tmp_path / "b", "lpbf", "--mirror=http://127.0.0.1:9") == 2
    assert "only a folder on a disk can list" in capsys.readouterr().err


def test_the_hub_is_asked_through_its_library(tmp_path, geo, monkeypatch, capsys):
    def receive(repository, name, *, repo_type, local_dir):
        assert (repository, repo_type) == ("vedantpuri/PDESurrogates", "dataset")
        (local_dir / name).write_bytes(geo)

    hub = SimpleNamespace(
        hf_hub_url=lambda *arguments, repo_type: "url",
        get_hf_file_metadata=lambda url: SimpleNamespace(size=len(geo)),
        hf_hub_download=receive,
    )
    monkeypatch.setattr(transfer, "hub_package", lambda: hub)
    assert run(tmp_path, "elasticity") == 0
    record = json.loads((tmp_path / "data" / "Geo-FNO" / "DOWNLOAD.json").read_text())["Geo-FNO.tar.gz"]
    assert record["source"].endswith("vedantpuri/PDESurrogates/resolve/main/Geo-FNO.tar.gz")

    def refuse(*arguments, **options):
        raise RuntimeError("401 Client\nError")

    hub.hf_hub_download = refuse
    assert run(tmp_path / "b", "elasticity") == 2
    assert "could not be fetched (401 Client Error); run the same command again" in capsys.readouterr().err

"""Downloads that are killed (SIGKILL) at any moment go on where they were, and lose nothing."""

import hashlib
import json
import signal
import subprocess
import sys
import time

import pytest

from data_pipeline.download import __main__ as command
from tests.data_pipeline.download.archives import geo_archive
from tests.data_pipeline.download.server import Files, serving

RECEIVED = 5000
GEO = geo_archive()


def started(data_dir, mirror, code=""):
    """Start the download of elasticity in a process of its own, after `code`."""
    arguments = ["elasticity", f"--data_dir={data_dir}", f"--mirror={mirror}"]
    program = f"{code}\nfrom data_pipeline.download.__main__ import main\nmain({arguments})"
    return subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)


def assert_complete(data_dir, source):
    """Everything is there with its record, and nothing else."""
    assert [path.name for path in data_dir.iterdir()] == ["Geo-FNO"]
    names = {path.name for path in (data_dir / "Geo-FNO").rglob("*") if path.is_file()}
    assert names == {"DOWNLOAD.json", "Random_UnitCell_XY_10.npy", "Random_UnitCell_sigma_10.npy"}
    record = json.loads((data_dir / "Geo-FNO" / "DOWNLOAD.json").read_text())["Geo-FNO.tar.gz"]
    assert record == {"source": source, "bytes": len(GEO), "sha256": hashlib.sha256(GEO).hexdigest()}


def test_killed_in_the_middle_of_a_transfer(tmp_path):
    data_dir = tmp_path / "data"
    part = data_dir / ".downloads" / "Geo-FNO.tar.gz.part"
    with serving(Files({"/Geo-FNO.tar.gz": GEO}, waits_after=RECEIVED)) as files:
        process = started(data_dir, files.address)
        end = time.monotonic() + 60
        while not (part.exists() and part.stat().st_size == RECEIVED):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < end
            time.sleep(0.02)
        process.kill()
        process.communicate()
        files.go_on.set()
        assert part.read_bytes() == GEO[:RECEIVED]
        assert command.main(["elasticity", f"--data_dir={data_dir}", f"--mirror={files.address}"]) == 0
        assert files.seen == [None, f"bytes={RECEIVED}-"]
    assert_complete(data_dir, f"{files.address}/Geo-FNO.tar.gz")


# Where the program kills itself: instead of this call, of which it is the given one.
@pytest.mark.parametrize(
    ("module", "name", "which"),
    [
        ("data_pipeline.download.unpack", "_merge", 1),  # all unpacked, nothing in place
        ("data_pipeline.download.unpack.shutil", "move", 2),  # one of two files in place
        ("data_pipeline.download.fetch", "check", 1),  # all in place
        ("data_pipeline.download.fetch", "_finish", 1),  # all recorded
    ],
)
def test_killed_afterwards(tmp_path, module, name, which):
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "Geo-FNO.tar.gz").write_bytes(GEO)
    data_dir, mirror = tmp_path / "data", tmp_path / "mirror"
    code = f"""
import importlib, os, signal
owner, _, attribute = "{module}".rpartition(".")
module = getattr(importlib.import_module(owner), attribute, None) or importlib.import_module("{module}")
inner, calls = getattr(module, "{name}"), []
def killing(*arguments, **options):
    calls.append(1)
    return os.kill(os.getpid(), signal.SIGKILL) if len(calls) == {which} else inner(*arguments, **options)
module.{name} = killing
"""
    process = started(data_dir, mirror, code)
    _, error = process.communicate()
    assert process.returncode == -signal.SIGKILL, error
    (mirror / "Geo-FNO.tar.gz").unlink()  # what was received is not asked for again
    for _ in range(2):
        assert command.main(["elasticity", f"--data_dir={data_dir}", f"--mirror={mirror}"]) == 0
        assert_complete(data_dir, f"{mirror}/Geo-FNO.tar.gz")

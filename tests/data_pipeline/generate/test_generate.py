"""The shared machinery: determinism, stopping and going on, refusals, the command line."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from data_pipeline import generate as package
from data_pipeline.generate import chunks, files, generate
from data_pipeline.generate.__main__ import main
from tests.data_pipeline.generate import toy


@pytest.fixture(autouse=True)
def _toy(monkeypatch):
    monkeypatch.setitem(package.GENERATORS, "toy", toy.__name__)


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _run_toy(out: Path, **options) -> Path:
    return generate("toy", out, **{"workers": 1, "progress": False, **options})


# The command; a suite that runs in the background ignores Ctrl-C, and so would what it starts.
_COMMAND = f"""
import runpy, signal
from data_pipeline import generate
generate.GENERATORS["toy"] = {toy.__name__!r}
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("data_pipeline.generate", run_name="__main__", alter_sys=True)
"""


def _start(out: Path, num: int) -> subprocess.Popen[bytes]:
    """Start the command for slow samples and wait until it has finished a chunk."""
    arguments = ["toy", f"--num={num}", f"--seed={toy.SLOW_SEED}", f"--out={out}", "--workers=1"]
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", _COMMAND, *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, cwd=root, start_new_session=True)
    deadline = time.monotonic() + 60.0
    while not list(out.glob("**/*.npz")):
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def _children(pid: int) -> list[Path]:
    tasks = Path(f"/proc/{pid}/task/{pid}/children")
    return [Path("/proc", child) for child in tasks.read_text().split()] if tasks.exists() else []


def test_files_source_and_clean_folder(tmp_path):
    folder = _run_toy(tmp_path, seed=3)
    assert folder == tmp_path / "Toy" / "Meshes"
    assert set(_contents(folder)) == {"a.npy", "b.npy", "SOURCE.json"}
    values = np.load(folder / "a.npy")
    assert values.shape == (7, 3)
    np.testing.assert_array_equal(values[4], np.random.default_rng([3, 4]).standard_normal(3))
    source = json.loads((folder / "SOURCE.json").read_text())
    assert source["generated"] is source["complete"] is True
    assert {key: source[key] for key in ("dataset", "solver", "solver_version", "seed", "num")} == {
        "dataset": "toy",
        "solver": "random numbers",
        "solver_version": 4,
        "seed": 3,
        "num": 7,
    }


def test_workers_change_nothing_and_a_smaller_number_is_a_prefix(tmp_path):
    one, three = _run_toy(tmp_path / "1"), _run_toy(tmp_path / "3", workers=3)
    assert _contents(one) == _contents(three)
    few = np.load(_run_toy(tmp_path / "few", num=3) / "a.npy")
    np.testing.assert_array_equal(few, np.load(one / "a.npy")[:3])
    assert not np.array_equal(few, np.load(_run_toy(tmp_path / "seed", num=3, seed=1) / "a.npy"))


@pytest.mark.slow
def test_a_killed_command_leaves_no_files_and_goes_on(tmp_path):
    process = _start(tmp_path / "killed", 7)
    workers = _children(process.pid)
    process.kill()
    process.communicate()
    folder = tmp_path / "killed" / "Toy" / "Meshes"
    assert [path for path in folder.iterdir() if not path.name.startswith(".partial")] == []
    kept = list(folder.glob(".partial*/*.npz"))
    assert 1 <= len(kept) < 4
    deadline = time.monotonic() + 30.0
    while any(worker.exists() for worker in workers):
        assert time.monotonic() < deadline, "the worker outlives the killed command"
        time.sleep(0.05)
    started = []
    original = chunks.solve
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "solve", lambda *arguments: (started.extend(arguments[3]), original(*arguments)))
        _run_toy(tmp_path / "killed", seed=toy.SLOW_SEED, workers=2)
    assert 1 <= len(started) <= 4 - len(kept)
    assert _contents(folder) == _contents(_run_toy(tmp_path / "whole", seed=toy.SLOW_SEED))


@pytest.mark.slow
def test_files_of_elasticity(tmp_path):
    folder, few = (generate("elasticity", tmp_path / str(n), n, workers=1, progress=False) for n in (2, 1))
    shapes = {name: np.load(folder / name).shape for name in _contents(folder) if name.endswith(".npy")}
    assert folder == tmp_path / "2" / "Geo-FNO" / "elasticity" / "Meshes"
    assert shapes == {
        "Random_UnitCell_XY_10.npy": (972, 2, 2),
        "Random_UnitCell_sigma_10.npy": (972, 2),
        "Random_UnitCell_rr_10.npy": (42, 2),
        "Random_UnitCell_theta_10.npy": (2, 10),
    }
    for name in shapes:
        array, prefix = np.load(folder / name), np.load(few / name)
        np.testing.assert_array_equal(prefix, array[:1] if "theta" in name else array[..., :1])


@pytest.mark.slow
def test_ctrl_c_ends_with_a_sentence(tmp_path):
    process = _start(tmp_path, 1000)
    workers = _children(process.pid)
    # A terminal sends the signal to the whole group.
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert error.decode().splitlines()[-1].startswith("stopped; run the same command again")
    assert b"Traceback" not in error
    assert not any(worker.exists() for worker in workers)


def test_run_stopped_while_moving_files_is_marked_and_can_be_repeated(tmp_path, monkeypatch):
    replace = os.replace

    def fail(source, target):
        if Path(target).name == "b.npy":
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        _run_toy(tmp_path)
    folder = tmp_path / "Toy" / "Meshes"
    assert json.loads((folder / "SOURCE.json").read_text())["complete"] is False
    assert (folder / "a.npy").exists()
    monkeypatch.undo()
    monkeypatch.setitem(package.GENERATORS, "toy", toy.__name__)
    assert _contents(_run_toy(tmp_path)) == _contents(_run_toy(tmp_path / "whole"))


def test_generated_files_are_replaced_only_on_request(tmp_path):
    before = _contents(_run_toy(tmp_path))
    with pytest.raises(ValueError, match=r"generated toy files already exist .* pass --overwrite"):
        _run_toy(tmp_path, seed=1)
    assert _contents(tmp_path / "Toy" / "Meshes") == before
    after = _contents(_run_toy(tmp_path, seed=1, overwrite=True))
    assert set(after) == set(before)
    assert after["a.npy"] != before["a.npy"]


@pytest.mark.parametrize("name", ["b.npy", "SOURCE.json"])
@pytest.mark.parametrize("source", [None, "not JSON", '{"generated": false}'])
def test_files_not_marked_as_generated_are_never_replaced(tmp_path, name, source):
    folder = tmp_path / "Toy" / "Meshes"
    folder.mkdir(parents=True)
    (folder / name).write_text("public")
    if source and name != "SOURCE.json":
        (folder / "SOURCE.json").write_text(source)
    with pytest.raises(ValueError, match="not marked as generated"):
        _run_toy(tmp_path, overwrite=True)
    assert (folder / name).read_text() == "public"


def test_second_run_into_the_same_folder_is_refused(tmp_path):
    folder = tmp_path / "Toy" / "Meshes"
    folder.mkdir(parents=True)
    with files.held(folder), pytest.raises(ValueError, match="another process is generating"):
        _run_toy(tmp_path)
    _run_toy(tmp_path)


def test_dying_worker_is_reported_and_finished_chunks_are_kept(tmp_path):
    with pytest.raises(RuntimeError, match=r"exit code 3 at samples 4 to 5; .* finished samples are kept"):
        _run_toy(tmp_path, seed=toy.DYING_SEED)
    assert sorted(path.name for path in tmp_path.glob("**/*.npz")) == ["00000000-00000002.npz", "00000002-00000004.npz"]


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-30])


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def _values(indices, seed=5):
    return {"values": np.array([np.random.default_rng([seed, index]).standard_normal(3) for index in indices])}


@pytest.fixture(scope="module")
def undamaged(tmp_path_factory):
    """Return the contents of five samples that were made at one go."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(package.GENERATORS, "toy", toy.__name__)
        return _contents(_run_toy(tmp_path_factory.mktemp("undamaged"), seed=5, num=5))


@pytest.mark.parametrize(
    ("damage", "again"),
    [
        (_truncate, [range(2, 4)]),
        (_flip, [range(2, 4)]),
        (lambda path: path.write_bytes(b""), [range(2, 4)]),
        (lambda path: np.savez(path, **_values(range(1))), [range(2, 4)]),
        # Nobody knows which of two kinds is right.
        (lambda path: np.savez(path, values=np.zeros((2, 4))), [range(2), range(2, 4)]),
    ],
)
def test_damaged_chunks_are_solved_again(tmp_path, undamaged, damage, again):
    partial = tmp_path / "damaged" / "Toy" / "Meshes" / ".partial-toy-v4-seed5"
    partial.mkdir(parents=True)
    for indices in (range(2), range(2, 4)):
        np.savez(files.chunk_path(partial, indices), **_values(indices))
    assert chunks.unfinished(partial, [range(2), range(2, 4)]) == []
    damage(files.chunk_path(partial, range(2, 4)))
    assert chunks.unfinished(partial, [range(2), range(2, 4)]) == again
    (partial / ".left.1.tmp.npz").write_text("by a killed worker")
    assert _contents(_run_toy(tmp_path / "damaged", seed=5, num=5)) == undamaged


def test_worker_that_cannot_write_is_reported(tmp_path):
    with pytest.raises(OSError, match="No such file or directory"):
        chunks.solve(toy.__name__, 0, tmp_path / "missing", [range(2)], 1, lambda count: None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "darcyy"}, "there is no generator named 'darcyy'; choose one of .*elasticity"),
        ({"num": 0}, "num must be an integer from 1 to 10000000, got 0"),
        ({"num": 10**9}, "num must be an integer from 1 to 10000000, got 1000000000"),
        ({"num": True}, "num must be an integer from 1 to 10000000, got True"),
        ({"seed": -1}, "seed must be an integer from 0 to 4294967295, got -1"),
        ({"workers": 0}, "workers must be an integer from 1 to 1024, got 0"),
    ],
)
def test_bad_arguments(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        generate(**{"name": "toy", "out": tmp_path, **options})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["toy", "--num=0"], "num must be an integer from 1 to 10000000, got 0"),
        (["darcyy"], "there is no generator named 'darcyy'"),
        (["toy", "--out={}/file"], "cannot be used"),
        (["toy", "--num=many"], "invalid int value: 'many'"),
        (["toy", "--sed=1"], "unrecognized arguments: --sed=1"),
    ],
)
def test_command_line_refuses_in_one_line(tmp_path, capsys, arguments, message):
    (tmp_path / "file").write_text("")
    try:
        status = main([argument.format(tmp_path) for argument in arguments])
    except SystemExit as stop:
        status = stop.code
    output, error = capsys.readouterr()
    assert status == 2
    assert output == ""
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match=r"cannot be used .*Permission denied"):
        _run_toy(tmp_path)


def test_command_line_writes_the_default_number(tmp_path, capsys):
    assert main(["toy", f"--out={tmp_path}", "--workers=2"]) == 0
    output, error = capsys.readouterr()
    assert output == f"generated toy data written to {tmp_path / 'Toy' / 'Meshes'}\n"
    assert error.splitlines()[0] == "toy: 0/7 samples"
    assert np.load(tmp_path / "Toy" / "Meshes" / "a.npy").shape == (7, 3)

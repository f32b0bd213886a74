import numpy as np
import pytest

from data_pipeline import inspect
from tests.data_pipeline import fake_files
from tests.data_pipeline.custom.files import write_npz


@pytest.mark.parametrize(
    ("name", "write", "options", "words"),
    [
        ("darcy", fake_files.write_darcy, ("--n_train=4", "--n_test=2", "--set=side=5"), "grid 5 x 5"),
        ("navier_stokes", fake_files.write_navier_stokes, ("--n_train=3", "--n_test=2"), "times: 10 from 11 to 20"),
        (
            "lpbf",
            lambda folder: fake_files.write_lpbf(folder, {"train": (140, 20), "test": (9,)}),
            ("--n_train=2", "--n_test=1", "--split=train"),
            "buckets (128, 256)",
        ),
    ],
)
def test_a_data_set_is_described_and_drawn(tmp_path, capsys, name, write, options, words):
    write(tmp_path)
    out = tmp_path / "sample.png"
    assert inspect.main([name, f"--data_dir={tmp_path}", f"--out={out}", *options]) == 0
    text = capsys.readouterr().out
    assert words in text
    assert "public files in" in text
    assert "test: " in text
    assert out.read_bytes().startswith(b"\x89PNG")


def test_ranges_leave_padding_out(tmp_path, capsys):
    fake_files.write_lpbf(tmp_path, {"train": (140, 20), "test": (9,)})
    inspect.main(["lpbf", f"--data_dir={tmp_path}", f"--out={tmp_path / 'a.png'}", "--n_train=2", "--n_test=1"])
    lines = capsys.readouterr().out.splitlines()
    line = next(line for line in lines if line.strip().startswith("y (2, "))
    values = [np.random.default_rng(n) for n in (0, 1)]
    smallest = []
    for rng, size in zip(values, (140, 20), strict=True):
        rng.uniform(-30, 30, (size, 3)), rng.uniform(20, 500, (size, 1))
        smallest.append(rng.normal(size=(size, 3))[:, 2].min())
    assert f"{min(smallest):.5g} to" in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], "'nothing' is no file or folder that exists, and no data set; check the path"),
        (["darcyy"], "'darcyy' is no file or folder that exists, and no data set (did you mean 'darcy'?); check"),
        (["darcy"], "not found in"),
        (["darcy", "--set=sides=3"], "--set=sides=3 is not understood; write name=value with a name among side"),
        (["darcy", "--set=side=three"], "side is int"),
        (["pipe", "--set=side=3"], "a name among none"),
        (["pipe", "--n_train=3", "--n_test=2", "--case=2"], "--case=2 is no sample"),
    ],
)
def test_refusals_are_one_sentence(tmp_path, capsys, arguments, words):
    fake_files.write_pipe(tmp_path)
    assert inspect.main([*arguments, f"--data_dir={tmp_path}", f"--out={tmp_path / 'a.png'}"]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--split=trian"], "--split=trian is not there; choose among test, train, or leave it out"),
        (["--case=1"], "--case=1 is no sample; choose one of 0 to 0"),
        (["--set=targets=pressure"], "goes with a data set; to see"),
        (["--out=out"], "--out=out must end in one of .png, .pdf, .svg, .jpg; rename it"),
        (["--out=/proc/none/a.png"], "the file system refuses /proc/none/a.png: No such file or directory; check that"),
    ],
)
def test_refusals_of_own_files(tmp_path, capsys, arguments, words):
    write_npz(tmp_path, {"train": (5, 6), "test": (7,)})
    assert inspect.main([str(tmp_path), f"--out={tmp_path / 'a.png'}", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1

"""The benchmark of large clouds at toy size: all ways agree."""

import json

import pytest

from benchmarks import clouds


def test_ways_agree(tmp_path):
    output = tmp_path / "clouds.json"
    sizes = ["--points=300", "--piece=128", "--channels=16", "--blocks=1", "--latents=4", "--any_device"]
    assert clouds.main([*sizes, "--whole", f"--output={output}"]) == 0
    ways = json.loads(output.read_text())["ways"]
    assert set(ways) == {"cloud", "pieces", "whole"}
    assert all(way["difference"] < 1e-5 and way["seconds"] > 0 for way in ways.values())


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--piece=0", "error: argument --piece: 0 must be an integer from 1 to"),
        ("--model=transolver", "error: argument --model: invalid choice: 'transolver'"),
    ],
)
def test_options_are_refused_in_one_sentence(flag, message, capsys):
    with pytest.raises(SystemExit):
        clouds.main([flag])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(message)

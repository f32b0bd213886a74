"""The benchmark of large clouds at toy size: all ways agree."""

import json

from benchmarks import clouds


def test_ways_agree(tmp_path):
    output = tmp_path / "clouds.json"
    sizes = ["--points=300", "--piece=128", "--channels=16", "--blocks=1", "--latents=4"]
    assert clouds.main([*sizes, "--whole", f"--output={output}"]) == 0
    ways = json.loads(output.read_text())["ways"]
    assert set(ways) == {"cloud", "pieces", "whole"}
    assert all(way["difference"] < 1e-5 and way["seconds"] > 0 for way in ways.values())

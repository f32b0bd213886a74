import json

from tests.experiments.programs import TINY
from tests.program_server import run_program


def test_steps_of_several_seeds_are_timed_on_any_device(tmp_path):
    model = [option for option in TINY if "data." not in option and "train." not in option]
    arguments = [*model, "--seeds=1,2", "--steps=2", "--repeats=2", "--any_device"]
    result = run_program("benchmarks.parallel_seeds", [*arguments, f"--output={tmp_path / 'a.json'}"])
    assert result.returncode == 0, result.stderr
    rows = json.loads((tmp_path / "a.json").read_text())["rows"]
    assert [row["seeds"] for row in rows] == [1, 2]
    assert all(row["step_ms"] > 0 for row in rows)
    assert "ratio to 1" in result.stdout
    refused = run_program("benchmarks.parallel_seeds", [*model, "--seeds=0"])
    assert "--seeds=0 must be numbers from 1" in refused.stderr

import json

from tests.experiments.programs import TINY
from tests.program_server import run_program


def test_the_training_step_is_timed_on_any_device(tmp_path):
    model = [option for option in TINY if "data." not in option and "train." not in option]
    arguments = [*model, "--notorch", "--steps=2", "--repeats=2"]
    result = run_program("benchmarks.train_step", [*arguments, f"--output={tmp_path / 'a.json'}"])
    assert result.returncode == 0, result.stderr
    times = json.loads((tmp_path / "a.json").read_text())
    assert times["points"] == 972
    assert times["flare_jax_ms"] > 0
    assert "ms/step (median)" in result.stdout

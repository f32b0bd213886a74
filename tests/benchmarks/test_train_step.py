import json
import subprocess
import sys

from tests.experiments.programs import ROOT, TINY


def test_the_training_step_is_timed_on_any_device(tmp_path):
    model = [option for option in TINY if "data." not in option and "train." not in option]
    command = [sys.executable, "-m", "benchmarks.train_step", *model, "--notorch", "--steps=2", "--repeats=2"]
    result = subprocess.run(
        [*command, f"--output={tmp_path / 'a.json'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    times = json.loads((tmp_path / "a.json").read_text())
    assert times["points"] == 972
    assert times["flare_jax_ms"] > 0
    assert "ms/step (median)" in result.stdout

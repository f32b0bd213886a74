import json

from tests.experiments.programs import TINY, environment
from tests.program_server import run_program

EIGHT = environment(XLA_FLAGS="--xla_force_host_platform_device_count=8")


def benchmark(*arguments):
    model = [option for option in TINY if "data." not in option and "train." not in option]
    return run_program("benchmarks.devices", [*model, "--steps=2", "--repeats=1", *arguments], env=EIGHT)


def test_meshes_are_timed_and_compared(tmp_path):
    result = benchmark("--meshes=1x1,2x4", f"--output={tmp_path / 'a.json'}")
    assert result.returncode == 0, result.stderr
    assert "gradient norm differs by" in result.stdout
    one, eight = json.loads((tmp_path / "a.json").read_text())["meshes"]
    assert (one["mesh"], eight["mesh"]) == ("1x1", "2x4")
    assert eight["step_ms"] > 0
    assert abs(eight["loss"] - one["loss"]) < 1e-4 * abs(one["loss"])
    assert abs(eight["grad_norm"] - one["grad_norm"]) < 1e-4 * abs(one["grad_norm"])


def test_text_that_is_no_mesh():
    result = benchmark("--meshes=1x1,4")
    assert result.returncode == 2
    assert "--meshes has '4'" in result.stderr

import json

from benchmarks.train_step_cpu import in_turn
from tests.experiments.programs import TINY
from tests.program_server import run_program

MODEL = [option for option in TINY if "data." not in option and "train." not in option]


def test_the_training_step_is_timed_on_any_device(tmp_path):
    arguments = [*MODEL, "--notorch", "--steps=2", "--repeats=2", "--any_device"]
    result = run_program("benchmarks.train_step", [*arguments, f"--output={tmp_path / 'a.json'}"])
    assert result.returncode == 0, result.stderr
    times = json.loads((tmp_path / "a.json").read_text())
    assert times["points"] == 972
    assert times["flare_jax_ms"] > 0
    assert "ms/step (median)" in result.stdout


def test_steps_on_frames_are_timed_without_pytorch(tmp_path):
    small = ["--config.model.num_blocks=1", "--config.model.channel_dim=8", "--config.model.num_heads=1"]
    small += ["--config.model.num_latents=4", "--config.train.batch_size=1", "--steps=1", "--repeats=1", "--any_device"]
    arguments = ["--config=configs/flare_ns.py:smoke", *small]
    refused = run_program("benchmarks.train_step", arguments)
    assert refused.returncode != 0
    assert "data set navier_stokes has none; add --notorch" in refused.stderr
    result = run_program("benchmarks.train_step", [*arguments, "--notorch", f"--output={tmp_path / 'a.json'}"])
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "a.json").read_text())["points"] == 4096


def test_runs_in_turn_have_clock_and_cpu_times():
    def work() -> None:
        sum(range(200_000))

    order: list[str] = []
    times = in_turn({name: lambda name=name: (order.append(name), work()) for name in ("a", "b")}, steps=2, repeats=2)
    assert order == ["a", "b"] * 3
    assert all(0 < t.cpu <= 2 * t.clock for t in times.values())


def test_the_step_on_a_cpu_takes_float32_only():
    result = run_program("benchmarks.train_step_cpu", [*MODEL, "--notorch", "--config.train.dtype=bfloat16"])
    assert result.returncode != 0
    assert "train.dtype='bfloat16' is not compared on a CPU; give float32" in result.stderr

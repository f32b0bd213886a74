import json

from tests.program_server import run_program


def test_tokens_per_second_on_any_device(tmp_path):
    sizes = ("--lengths=32", "--tokens_per_step=64", "--steps=1", "--repeats=1", "--dtype=float32", "--any_device")
    arguments = [*sizes, f"--output={tmp_path / 'a.json'}"]
    result = run_program("benchmarks.sequence_throughput", arguments)
    assert result.returncode == 0, result.stderr
    results = json.loads((tmp_path / "a.json").read_text())["results"]
    assert [(row["model"], row["tokens"], row["batch"]) for row in results] == [
        ("flare", 32, 2), ("transformer", 32, 2),
    ]  # fmt: skip
    assert all(row["tokens_per_s"] > 0 for row in results)
    assert "of flare" in result.stdout

import json

from tests.program_server import run_program


def test_training_and_decoding_on_any_device(tmp_path):
    sizes = ("--size=recall32", "--models=published,transformer", "--contexts=32", "--decode_contexts=32,1024")
    counts = ("--batches=1", "--tokens_per_step=64", "--steps=1", "--burst=2", "--repeats=1", "--dtype=float32")
    result = run_program("benchmarks.causal_lm", [*sizes, *counts, f"--output={tmp_path / 'a.json'}"])
    assert result.returncode == 0, result.stderr
    rows = json.loads((tmp_path / "a.json").read_text())["results"]
    assert [(row["part"], row["context"], row["model"]) for row in rows] == [
        ("train", 32, "published"), ("train", 32, "transformer"),
        ("decode", 32, "published"), ("decode", 32, "transformer"),
        ("decode", 1024, "published"), ("decode", 1024, "transformer"),
    ]  # fmt: skip
    states = [row["state_mib"] for row in rows[2:]]
    assert states[0] == states[2] < states[3] > 10 * states[1]
    assert all(row["tokens_per_s"] > 0 for row in rows[:2])

import json

from tests.program_server import run_program


def test_training_and_decoding_on_any_device(tmp_path):
    sizes = ("--size=recall32", "--models=published,transformer", "--contexts=32", "--decode_contexts=32,1024")
    counts = ("--batches=1", "--tokens_per_step=64", "--steps=1", "--burst=2", "--repeats=1")
    counts += ("--dtype=float32", "--any_device")
    result = run_program("benchmarks.causal_lm", [*sizes, *counts, f"--output={tmp_path / 'a.json'}"])
    assert result.returncode == 0, result.stderr
    content = json.loads((tmp_path / "a.json").read_text())
    rows = content["results"]
    assert [(row["part"], row["context"], row["model"]) for row in rows] == [
        ("decode", 32, "published"), ("decode", 32, "transformer"),
        ("decode", 1024, "published"), ("decode", 1024, "transformer"),
        ("train", 32, "published"), ("train", 32, "transformer"),
    ]  # fmt: skip
    states = [row["state_mib"] for row in rows[:4]]
    assert states[0] == states[2] < states[3] > 10 * states[1]
    assert all(row["tokens_per_s"] > 0 for row in rows[4:])
    # What is there is kept, what is missing or has failed is measured, and a form that cannot run stops no other.
    kept = [{**rows[0], "token_ms": 123.0}, {**rows[1], "failed": "ValueError: x"}]
    (tmp_path / "a.json").write_text(json.dumps({**content, "results": kept}))
    more = ("--models=published,transformer_cudnn,transformer", "--decode_contexts=32", "--parts=decode", "--resume")
    result = run_program("benchmarks.causal_lm", [*sizes, *counts, *more, f"--output={tmp_path / 'a.json'}"])
    assert result.returncode == 0, result.stderr
    first, failed, again = json.loads((tmp_path / "a.json").read_text())["results"]
    assert (first["token_ms"], again["model"], again["token_ms"] > 0) == (123.0, "transformer", True)
    assert "implementation 'cudnn' takes float16 or bfloat16, not float32" in failed["failed"]
    refused = run_program(
        "benchmarks.causal_lm", [*sizes, *counts, "--size=tiny", "--resume", f"--output={tmp_path / 'a.json'}"]
    )
    assert "holds measurements of {'size': 'recall32', 'dtype': 'float32'}, not of" in refused.stderr

import io
import json

import pytest
from rich.console import Console as RichConsole

from experiments.training import records
from experiments.training.records import Console, MetricsLog, curve, read_log


def test_log_drops_what_a_resumed_run_will_write_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"event": "train", "step": 1}\n{"event": "train", "step": 2}\n{"event": "train", "st')
    log = MetricsLog(path, resume_step=1)
    log.write("train", 2, {"loss": 0.5})
    assert read_log(path) == [{"event": "train", "step": 1}, {"event": "train", "step": 2, "loss": 0.5}]


def test_damaged_lines_are_left_out_and_the_rest_is_kept(tmp_path):
    path = tmp_path / "metrics.jsonl"
    bad = ["", "{", "[1]", '{"event": "train"}', '{"event": "train", "step": "2"}', '{"event": 1, "step": 2}']
    good = [{"event": "train", "step": step} for step in range(len(bad) + 1)]
    lines = [
        json.dumps(good[0]),
        *(text for one, two in zip(bad, good[1:], strict=True) for text in (one, json.dumps(two))),
    ]
    path.write_text("\n".join(lines) + '\n{"event": "train", "st')
    path.write_bytes(path.read_bytes().replace(b"[1]", b"\xff"))
    said = []
    assert read_log(path, said.append) == good
    assert said == [
        f"warning: lines 2, 4, 6, 8, 10 and 1 more of {path} are damaged and left out; the other 7 are used"
    ]
    MetricsLog(path, 3, said.append)
    assert read_log(path) == good[:4]


def test_numbers_that_are_not_finite_are_null_in_the_log(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path, 0)
    for step, loss in enumerate((2.0, float("nan"), float("inf"), 1.0)):
        log.write("train", step, {"epoch": step, "loss": loss})
    assert [json.loads(line)["loss"] for line in path.read_text().splitlines()] == [2.0, None, None, 1.0]
    assert "NaN" not in path.read_text()
    assert curve(read_log(path), "train", "loss") == ([0, 3], [2.0, 1.0])


def test_plain_console_prints_one_line_per_interval_with_the_time_left(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(records.time, "monotonic", lambda: now[0])
    console = Console(total=100, done=0, interval=10.0)
    for step in range(1, 61):
        # The first step is compiled.
        now[0] += 1.0 if step > 1 else 300.0
        console.advance(step, "loss 1")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert lines[0] == "step 1/100  loss 1"
    assert lines[-1] == "step 51/100  loss 1  0:49 left"


def test_terminal_gets_a_bar_with_messages_above_it(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(records.sys.stdout, "isatty", lambda: True, raising=False)
    progress = records.Progress
    monkeypatch.setattr(
        records,
        "Progress",
        lambda *columns: progress(*columns, console=RichConsole(file=screen, force_terminal=True, width=100)),
    )
    console = Console(total=10, done=4)
    console.say("hello [loss]")
    console.advance(7, "loss 0.25")
    console.stop()
    assert "hello [loss]" in screen.getvalue()
    assert "7/10" in screen.getvalue()


def test_quiet_console_is_silent(capsys):
    console = Console(total=10, done=0, quiet=True)
    console.say("a")
    console.advance(1, "b")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("seconds", "text"), [(59.6, "1:00"), (61, "1:01"), (7325, "2:02:05")])
def test_clock(seconds, text):
    assert records.clock(seconds) == text

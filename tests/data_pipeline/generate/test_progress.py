"""Progress lines and time spans."""

import pytest

from data_pipeline.generate.progress import duration, show_progress


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1.0, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (185.0, "3 min 5 s"), (7810.0, "2 h 10 min")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_a_line_for_every_tenth_and_none_when_disabled(capsys):
    with show_progress("toy", 200, 40) as advance:
        for _ in range(16):
            advance(10)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "toy: 40/200 samples"
    assert [line.split()[1] for line in lines[1:]] == [f"{count}/200" for count in range(60, 201, 20)]
    assert "(30 %)" in lines[1]
    assert lines[-1].endswith("0 s left")
    with show_progress("toy", 200, 0, enabled=False) as advance:
        advance(200)
    assert capsys.readouterr() == ("", "")


def test_time_left_counts_the_samples_of_this_run_only(capsys, monkeypatch):
    clock = iter([100.0, 110.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    with show_progress("toy", 100, 70) as advance:
        advance(10)
    assert capsys.readouterr().err.splitlines()[1] == "toy: 80/100 samples (80 %), 10 s elapsed, 20 s left"


def test_a_bar_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "100")
    with show_progress("toy", 4, 1) as advance:
        advance(3)
    error = capsys.readouterr().err
    assert "toy" in error
    assert "4/4" in error

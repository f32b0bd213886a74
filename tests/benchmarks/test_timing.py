import pytest

from benchmarks.timing import adaptive_seconds, growth, markdown_table


class Clock:
    """Calls that take the given seconds each, after a first one that takes longer."""

    def __init__(self, seconds, first):
        self.seconds, self.first, self.calls = seconds, first, []

    def __call__(self, calls):
        self.calls.append(calls)
        return self.first if len(self.calls) == 1 else calls * self.seconds


def test_short_calls_are_timed_in_samples_of_several_calls_and_without_the_first():
    clock = Clock(1e-3, first=1.0)
    assert adaptive_seconds(clock, budget=0.6) == pytest.approx(1e-3)
    assert clock.calls == [1, 1, *[60] * 10]


def test_samples_are_shorter_where_the_budget_is_small():
    clock = Clock(1e-3, first=1e-3)
    assert adaptive_seconds(clock, budget=0.03) == pytest.approx(1e-3)
    assert clock.calls == [1, 1, *[10] * 3]


def test_launching_and_waiting_do_not_count():
    def sample(calls):
        return 0.4e-3 + calls * 2.8e-3  # of a mixer at a million points on an H200, and its host

    assert adaptive_seconds(sample, budget=0.6) == pytest.approx(2.8e-3, rel=0.01)


def test_calls_beyond_the_budget_are_made_once_after_warm_up():
    clock = Clock(2.0, first=2.5)
    assert adaptive_seconds(clock, budget=0.5) == 2.0
    assert clock.calls == [1, 1]


def test_the_slowest_calls_are_not_repeated():
    clock = Clock(18.0, first=19.0)
    assert adaptive_seconds(clock, budget=0.5) == 19.0
    assert clock.calls == [1]


def test_calls_above_the_ceiling_are_made_once():
    clock = Clock(0.1, first=0.1)
    assert adaptive_seconds(clock, budget=1.0, ceiling=0.05) == 0.1
    assert clock.calls == [1, 1]


def test_growth_predicts_the_next_call():
    assert growth((1000, 1.0), 4000, 2, longest=17.0) == ""
    assert growth((1000, 1.0), 4000, 2, longest=15.0) == "left out: would take about 16 s a call"
    assert growth((1000, 1.0), 4000, 1, longest=15.0) == ""


def test_markdown_tables():
    assert markdown_table(("a", "b"), [("1", "x|y")]) == "| a | b |\n| --- | --- |\n| 1 | x/y |\n"

import subprocess
import time

import pytest

from benchmarks.worker import NOT_REACHED, Worker, reason


@pytest.fixture(autouse=True)
def start_from_nothing(monkeypatch):
    """Start these workers, which import next to nothing, as users do."""
    monkeypatch.setattr("benchmarks.worker.subprocess", subprocess)


def collect(names, seconds=30.0):
    with Worker("tests.benchmarks.answering") as worker:
        answers = list(worker.answers({"factor": 2}, names, time.monotonic() + seconds))
    return {answer["name"]: answer.get("value", answer.get("error")) for answer in answers}


def test_all_names_are_answered():
    assert collect(["a", "bb"]) == {"a": 2, "bb": 4}


def test_a_name_that_kills_the_process_costs_only_itself():
    assert collect(["a", "die", "bb"]) == {"a": 2, "die": "the process died with status 3", "bb": 4}


def test_an_exception_becomes_the_error_of_its_name():
    assert collect(["raise", "bb"]) == {"raise": "RuntimeError: no such thing", "bb": 4}


def test_a_fatal_answer_counts_and_the_process_is_replaced():
    assert collect(["fatal", "bb"]) == {"fatal": 10, "bb": 4}


def test_a_name_that_hangs_is_stopped_at_the_deadline():
    begin = time.monotonic()
    answers = collect(["a", "hang", "bb"], seconds=2.0)
    assert time.monotonic() - begin < 20
    assert answers["a"] == 2
    assert answers["hang"] == NOT_REACHED
    assert answers["bb"] == NOT_REACHED


def test_no_process_is_started_after_the_deadline():
    with Worker("tests.benchmarks.answering") as worker:
        answers = list(worker.answers({"factor": 2}, ["a"], time.monotonic() - 1.0))
        assert worker._process is None
    assert answers == [{"name": "a", "error": NOT_REACHED}]


@pytest.mark.parametrize(
    ("error", "expected"),
    [(ValueError("\n first\nsecond"), "ValueError: first"), (KeyError(), "KeyError: no message")],
)
def test_reasons_are_one_line(error, expected):
    assert reason(error) == expected

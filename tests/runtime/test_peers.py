"""Processes of one run end together where one of them is lost, with one sentence, and not where one is done."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SENTENCE = (
    "process {} of 3 has ended before the run was complete; start the same command again for all processes to go on "
    "from the last complete checkpoint"
)
PROGRAM = """
import sys, threading
from runtime import peers
number, port = int(sys.argv[1]), int(sys.argv[2])
if number == 0:
    server = peers.listen()
    print(server.getsockname()[1], flush=True)
    peers.accept(server, 3)
else:
    peers.connect("localhost", port, number, 3)
print("ready", flush=True)
for order in sys.stdin:
    if order == "leave\\n":
        peers.leave()
    if order == "fail\\n":  # by what follows from the loss of another process
        peers.settle()
        sys.exit("error: a broken connection")
"""


@pytest.fixture
def three():
    """Start three processes that are connected."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started, port = [], "0"
    for number in range(3):
        command = [sys.executable, "-c", PROGRAM, str(number), port]
        started.append(subprocess.Popen(command, cwd=ROOT, **pipes))
        port = started[0].stdout.readline().strip() if number == 0 else port
    for process in started:
        assert process.stdout.readline() == "ready\n"
    yield started
    for process in started:
        process.kill()
        process.communicate()


def tell(process, order):
    process.stdin.write(f"{order}\n")
    process.stdin.flush()


@pytest.mark.parametrize("lost", [0, 2])
def test_the_others_end_where_one_is_killed(three, lost):
    three[lost].kill()
    for number in {0, 1, 2} - {lost}:
        assert three[number].wait(20) == 1
        assert three[number].stderr.read().strip() == SENTENCE.format(lost)


def test_errors_that_follow_are_not_reported(three):
    three[1].kill()
    tell(three[0], "fail")
    assert three[0].wait(20) == 1
    assert three[0].stderr.read().strip() == SENTENCE.format(1)


def test_an_error_of_one_process_ends_all(three):
    tell(three[1], "fail")
    assert three[1].wait(20) == 1
    assert "a broken connection" in three[1].stderr.read()
    assert three[2].wait(20) == 1
    assert three[2].stderr.read().strip() == SENTENCE.format(1)


def test_processes_that_are_done_leave(three):
    for process in three:
        tell(process, "leave")
    for process in three:
        _, errors = process.communicate(timeout=20)
        assert (process.returncode, errors) == (0, "")

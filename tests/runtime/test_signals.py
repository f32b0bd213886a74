"""Programs end in order on Ctrl-C and SIGTERM, also where the main thread is in foreign code for a long time."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import flare_jax_programs

ROOT = Path(__file__).parents[2]
START = """
import hashlib, os, signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.{ctrl_c})
from runtime import signals
from runtime.files import replacing
signals.install("start it again")
def ready(): print("ready", flush=True)
def compile(): hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # long, and outside of Python
"""
COMPILING = "ready(); compile()"
HALF_WRITTEN = "ready()\nwith replacing(Path(sys.argv[1], 'a.npz')) as t:\n    t.write_text('half'); compile()"
WORKING = """
try:
    with signals.protected():
        ready()
        while not signals.requested():
            time.sleep(0.01)
        time.sleep({rest})
        print("saved", flush=True)
except signals.Interrupted as stop:
    print(stop)
    sys.exit(stop.status)
"""


def _start(body, *arguments, ctrl_c="SIG_DFL"):
    command = [sys.executable, "-c", START.format(ctrl_c=ctrl_c) + body, *map(str, arguments)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.05)
    return process


def _end(process, *numbers):
    begin = time.monotonic()
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.2)
    output, error = process.communicate(timeout=20)
    return process.returncode, output, error, time.monotonic() - begin


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_program_with_nothing_to_lose_ends_at_once(tmp_path, number):
    status, output, error, seconds = _end(_start(HALF_WRITTEN, tmp_path), number)
    assert (status, output, error.strip()) == (128 + number, "", "start it again")
    assert seconds < 5
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_work_is_brought_to_a_safe_point(number):
    status, output, error, _ = _end(_start(WORKING.format(rest=0.5)), number)
    assert (status, output.split("\n")) == (128 + number, ["saved", "start it again", ""])
    assert "stopping after the running steps" in error
    assert "Traceback" not in error


def test_a_second_signal_ends_at_once():
    status, output, error, seconds = _end(_start(WORKING.format(rest=60)), signal.SIGTERM, signal.SIGINT)
    assert (status, output) == (130, "")
    assert error.strip().endswith("start it again")
    assert seconds < 5


def test_an_ignored_signal_stays_ignored():
    process = _start(COMPILING, ctrl_c="SIG_IGN")
    status, *_ = _end(process, signal.SIGINT, signal.SIGTERM)
    assert status == 143


def test_a_signal_while_python_takes_itself_down_changes_nothing():
    program = """
import os, signal
from runtime import signals
signals.install("ended")
class Last:
    def __del__(self, kill=os.kill, pid=os.getpid(), number=signal.SIGINT):
        kill(pid, number)
last = Last()
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


PROGRAM_MODULES = sorted({module for module, *_ in flare_jax_programs.PROGRAMS.values()} | {"benchmarks.kernels"})


@pytest.mark.parametrize("module", [*PROGRAM_MODULES, "flare_jax_programs"])
def test_every_program_answers_while_it_still_imports(tmp_path, module):
    """NumPy is the first that takes long; this one takes for ever."""
    (tmp_path / "numpy.py").write_text("import time\nprint('ready', flush=True)\ntime.sleep(60)\n")
    arguments = ["inspect"] if module == "flare_jax_programs" else []
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    status, _, error, _ = _end(process, signal.SIGINT)
    assert status == 130
    assert error.strip().endswith(("run the same command again", "run the same command again to go on",
                                   "to go on from the finished samples"))  # fmt: skip
    assert len(error.strip().splitlines()) == 1


def test_programs_of_others_keep_their_signals(tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "__init__.py").write_text("import configs\n")
    (tmp_path / "theirs" / "program.py").write_text("import signal; print(signal.getsignal(signal.SIGINT).__name__)")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "theirs.program"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout == "default_int_handler\n"

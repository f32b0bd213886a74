"""Programs whose output nobody reads any more, as behind `| head`, end in order, quietly, and with status 141."""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@contextmanager
def unread():
    """Yield a file of which nobody will ever read."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as file:
        yield file


def _run(program, error=subprocess.PIPE):
    with unread() as out:
        return subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, stdout=out, stderr=error, text=True, timeout=60
        )


BEGIN = "import sys\nfrom pathlib import Path\nfrom runtime import signals\nsignals.install('start it again')\n"


@pytest.mark.parametrize("end", ["print('a')", "print('a', flush=True)\nraise OSError('never reached')"])
def test_a_program_with_nothing_to_lose_ends_without_a_word(end):
    done = _run(BEGIN + end)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(("unbuffered", "written"), [("", ""), ("1", "a")])
def test_output_is_as_much_buffered_as_it_was(unbuffered, written):
    command = [sys.executable, "-c", BEGIN + "import os\nprint('a', end='')\nos._exit(0)"]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, written)


def test_half_a_file_is_removed(tmp_path):
    program = f"""
from runtime.files import replacing
with replacing(Path({str(tmp_path)!r}, "a.txt")) as temporary:
    temporary.write_text("half")
    print("a", flush=True)
"""
    assert _run(BEGIN + program).returncode == 141
    assert not list(tmp_path.iterdir())


WORK = """
try:
    with signals.protected():
        print("a", flush=True)
        assert signals.requested()
        print("nothing more is read", flush=True)
        print("nor here", file=sys.stderr, flush=True)
        Path({path!r}).touch()
except signals.Interrupted as stop:
    print(stop, file=sys.stderr)
    sys.exit(stop.status)
"""


@pytest.mark.parametrize("errors_are_read", [True, False])
def test_work_is_brought_to_a_safe_point(tmp_path, errors_are_read):
    program = BEGIN + WORK.format(path=str(tmp_path / "saved"))
    if errors_are_read:
        done = _run(program)
        assert done.stderr.splitlines()[-1] == "start it again"
        assert "stopping after the running steps" in done.stderr
    else:
        done = _run(program, error=subprocess.STDOUT)
    assert done.returncode == 141
    assert (tmp_path / "saved").exists()


def test_a_stream_that_is_something_else_stays(capsys):
    from runtime.streams import watch_readers

    before = sys.stdout, sys.stderr
    watch_readers(lambda: None)
    assert (sys.stdout, sys.stderr) == before


LISTS = (
    ("flare_jax_programs",),
    ("configs",),
    ("experiments.generate", "--help"),
    ("data_pipeline.download", "--list"),
    ("benchmarks",),
)


@pytest.mark.parametrize("line", LISTS, ids=" ".join)
def test_lists_of_the_programs(line):
    with unread() as out:
        command = [sys.executable, "-m", *line]
        done = subprocess.run(command, cwd=ROOT, stdout=out, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (141, "")

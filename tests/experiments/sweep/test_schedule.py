"""The order of a sweep, with jobs that end as they are told: failures, signals, busy folders, places on devices."""

import io
import json
import signal

import pytest
from rich.console import Console

from experiments.errors import UserError
from experiments.sweep import board, endings, jobs, schedule
from experiments.sweep.schedule import Schedule, failure_of, forget_failures
from runtime import signals


class FakeRun:
    """A run that is done after `stages` jobs have ended well."""

    def __init__(self, folder, name, stages=1):
        self.labels, self.folder, self.left = {"run": name}, folder / name, [f"stage_{n}" for n in range(stages)]

    def command(self):
        return (self.left[0], (self.folder.name,)) if self.left else None

    def ended(self, module):
        self.left.remove(module)

    def progress(self):
        return float(not self.left)


class FakeJobs:
    """Launches jobs that end with the next of the endings of their run, (status, last line), by default well."""

    def __init__(self, **endings):
        self.endings, self.started, self.now, self.most, self.terminated = endings, [], 0, 0, []

    def __call__(self, command, log, environment):
        self.started.append((*command, dict(environment)))
        self.now += 1
        self.most = max(self.most, self.now)
        status, text = (self.endings.get(log.parent.name, []) and self.endings[log.parent.name].pop(0)) or (0, "")
        with log.open("a") as file:
            file.write(f"{text}\n")
        return FakeProcess(self, status, log.parent.name)


class FakeProcess:
    def __init__(self, owner, status, name):
        self.owner, self.status, self.name, self.asked = owner, status, name, 0

    def poll(self):
        self.asked += 1
        if self.asked < 3 or (self.status is None and self.name not in self.owner.terminated):
            return None
        self.owner.now -= self.asked == 3
        return 143 if self.status is None else self.status

    def terminate(self):
        self.owner.terminated.append(self.name)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(schedule, "_POLL_SECONDS", 0.0)
    monkeypatch.setattr(schedule, "_BUSY_SECONDS", 0.0)
    monkeypatch.setattr(schedule, "_RECOVERY_SECONDS", 0.0)


def _execute(runs, launch, slots=None):
    said = []
    shown = board.Board(runs, said.append)
    return Schedule(runs, slots or [jobs.Slot(None, {})] * 2, launch, shown).execute(), said


def test_a_failed_run_is_reported_with_its_sentence_and_stops_no_other(tmp_path):
    runs = [FakeRun(tmp_path, name) for name in ("a", "b", "c", "d")]
    launch = FakeJobs(
        b=[(2, "warning: x\nerror: train.batch_size=0 is none; raise it")], c=[(1, "Traceback\nKeyError: 3")]
    )
    outcome, said = _execute(runs, launch)
    assert {folder.name: text for folder, text in outcome.failed.items()} == {
        "b": "train.batch_size=0 is none; raise it",
        "c": "it ended with status 1: KeyError: 3",
    }
    assert (runs[0].left, runs[3].left) == ([], [])
    assert "run b: FAILED: train.batch_size=0 is none; raise it" in said
    assert json.loads((tmp_path / "b" / "failure.json").read_text())["status"] == 2
    # A second sweep reports it and leaves it alone, unless it is told to begin it again.
    again = FakeJobs()
    assert set(_execute(runs, again)[0].failed) == {runs[1].folder, runs[2].folder}
    assert again.started == []
    forget_failures(runs)
    assert failure_of(runs[1]) == ""
    assert not _execute(runs, again)[0].failed
    assert [command for command, *_ in again.started] == ["stage_0"] * 2


def test_a_run_with_several_jobs_goes_through_them_in_order(tmp_path):
    launch = FakeJobs()
    _execute([FakeRun(tmp_path, "a", stages=3)], launch)
    assert [module for module, *_ in launch.started] == ["stage_0", "stage_1", "stage_2"]


def test_a_run_that_a_signal_ended_is_begun_again_once(tmp_path):
    killed = (-signal.SIGKILL, "")
    runs = [FakeRun(tmp_path, "once"), FakeRun(tmp_path, "always")]
    outcome, _ = _execute(runs, FakeJobs(once=[killed], always=[(143, ""), killed]))
    assert runs[0].left == []
    assert {folder.name: text for folder, text in outcome.ended.items()} == {"always": "it was ended by SIGKILL"}
    assert not (tmp_path / "always" / "failure.json").exists()


def test_a_folder_at_which_another_sweep_is_at_work_is_waited_for(tmp_path):
    busy = (2, "error: another process is training in --workdir=a; wait for its end or use another --workdir")
    data = (2, "error: another process is generating into 'data'; wait for it or choose another out folder")
    run = FakeRun(tmp_path, "a")
    outcome, _ = _execute([run], FakeJobs(a=[busy, data, busy]))
    assert (run.left, outcome.failed, outcome.ended) == ([], {}, {})


def test_jobs_that_end_well_without_results_do_not_go_on_for_ever(tmp_path):
    run = FakeRun(tmp_path, "a")
    run.ended = lambda module: None
    outcome, _ = _execute([run], FakeJobs())
    assert "it ended well but left no results" in outcome.failed[run.folder]


def test_equal_runs_are_made_once_and_places_are_never_exceeded(tmp_path):
    runs = [FakeRun(tmp_path, name) for name in ("a", "b", "a", "c", "d", "e")]
    launch = FakeJobs()
    _execute(runs, launch, [jobs.Slot(gpu, {"CUDA_VISIBLE_DEVICES": str(gpu)}) for gpu in (0, 1, 1)])
    assert sorted(arguments for _, arguments, _ in launch.started) == [("a",), ("b",), ("c",), ("d",), ("e",)]
    assert launch.most == 3
    assert {environment["CUDA_VISIBLE_DEVICES"] for *_, environment in launch.started} == {"0", "1"}


def test_after_its_time_a_sweep_ends_its_jobs_and_says_what_is_left(tmp_path):
    runs = [FakeRun(tmp_path, name) for name in ("a", "b", "c")]
    launch = FakeJobs(b=[(None, "")])
    shown = board.Board(runs, lambda text: None)
    outcome = Schedule(runs, [jobs.Slot(None, {})], launch, shown, seconds=0.2).execute()
    assert launch.terminated == ["b"]
    assert (runs[0].left, runs[1].left, runs[2].left) == ([], ["stage_0"], ["stage_0"])
    assert sorted(folder.name for folder in outcome.postponed) == ["b", "c"]
    assert (outcome.failed, outcome.ended) == ({}, {})


def test_a_signal_ends_the_jobs_in_order(tmp_path, monkeypatch):
    runs = [FakeRun(tmp_path, name) for name in ("a", "b", "c")]
    launch = FakeJobs(a=[(None, "")], b=[(None, "")])
    shown = board.Board(runs, lambda text: monkeypatch.setattr(signals._state, "requested", signal.SIGTERM))
    with pytest.raises(signals.Interrupted) as stopped:
        Schedule(runs, [jobs.Slot(None, {})] * 2, launch, shown).execute()
    assert stopped.value.status == 143
    assert launch.terminated == ["a", "b"]
    assert len(launch.started) == 2


def test_places_on_all_gpus_of_a_host(tmp_path):
    for name in ("nvidia0", "nvidia3", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    slots = jobs.make_slots(2, {}, tmp_path)
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["0", "1", "0", "1"]
    assert {slot.environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] for slot in slots} == {"0.450"}
    (first, second) = jobs.make_slots(1, {"CUDA_VISIBLE_DEVICES": "4,7"}, tmp_path)
    assert (first.environment, second.describe()) == ({"CUDA_VISIBLE_DEVICES": "4"}, "GPU 1")
    assert jobs.make_slots(3, {"JAX_PLATFORMS": "cpu"}, tmp_path) == [jobs.Slot(None, {})] * 3
    with pytest.raises(UserError, match="--jobs=0 must be a number of processes per GPU"):
        jobs.check_jobs(0)


def test_jobs_on_gpus_share_compiled_programs(tmp_path):
    (tmp_path / "nvidia0").touch()
    cache = jobs.cache_folder(None, tmp_path / "out", {}, tmp_path)
    (slot,) = jobs.make_slots(1, {}, tmp_path, cache=cache)
    assert slot.environment["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path / "out/cache")
    own = {"JAX_COMPILATION_CACHE_DIR": "/mine"}
    assert jobs.cache_folder(None, tmp_path, own, tmp_path) is None
    (named,) = jobs.make_slots(1, own, tmp_path, cache=jobs.cache_folder("/other", tmp_path, own, tmp_path))
    assert named.environment["JAX_COMPILATION_CACHE_DIR"] == "/other"
    assert jobs.cache_folder("", tmp_path, {}, tmp_path) is None
    cpu = {"JAX_PLATFORMS": "cpu"}
    assert jobs.cache_folder(None, tmp_path, cpu, tmp_path) is None
    with pytest.raises(UserError, match="--compilation_cache=/other is for GPUs, and there is none here"):
        jobs.cache_folder("/other", tmp_path, cpu, tmp_path)


def test_the_time_left_is_that_of_the_work_left(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(board.time, "monotonic", lambda: now[0])
    runs, said = [FakeRun(tmp_path, name) for name in "abcd"], []
    shown = board.Board(runs, said.append)
    now[0], runs[0].left = 90.0, []
    shown.show([], jobs.Outcome(failed={runs[3].folder: "x"}))
    assert said == ["1 of 4 runs done, 0 at work, 1 failed, 3:00 left"]


def test_a_terminal_gets_a_table_of_what_runs_with_events_above_it(tmp_path, monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(board.sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(board, "Console", lambda: Console(file=screen, force_terminal=True, width=100))
    monkeypatch.setattr(board, "_TABLE_SECONDS", 0.0)
    runs = [FakeRun(tmp_path, name) for name in "ab"]
    shown = board.Board(runs)
    shown.say(runs[0], "stage [0] on GPU 1")
    slot = jobs.Slot(1, {"CUDA_VISIBLE_DEVICES": "1"})
    shown.show([jobs.Job(runs[0], ("m", ()), slot, FakeProcess(FakeJobs(), 0, "a"), 0)], jobs.Outcome())
    shown.stop()
    text = screen.getvalue()
    assert "run a: stage [0] on GPU 1" in text
    assert "0 of 2 runs done, 1 at work, 0 failed, time left unknown yet" in text
    assert "0 %" in text


# What jaxlib prints at the end where another process under MPS has brought the device down.
LAUNCH_FAILED = """epoch 3/20, step 1500: loss 0.0123
E1129 15:04:07.301948  412 cuda_executor.cc:1212] failed to free device memory; result: CUDA_ERROR_LAUNCH_FAILED
Traceback (most recent call last):
  File "/src/experiments/training/device_source.py", line 75, in __call__
    values = jax.device_get(metrics)
jax.errors.JaxRuntimeError: INTERNAL: CUDA error: : CUDA_ERROR_LAUNCH_FAILED: unspecified launch failure

=== Source Location Trace: ===
external/xla+/xla/stream_executor/cuda/cuda_status.cc:50
"""
NO_MEMORY = """jax.errors.JaxRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate 71303168 bytes.

=== Source Location Trace: ===
external/xla+/xla/stream_executor/device_memory.h:88
"""
CHECK_FAILED = """F1129 15:04:07.301948  412 cuda_event.cc:55] Check failed: status == CUDA_SUCCESS (719 vs. 0)
*** Check failure stack trace: ***
    @     0x7f2d5c1a2c24  (unknown)
"""


@pytest.mark.parametrize(
    ("status", "text", "cause", "sentence"),
    [
        (1, LAUNCH_FAILED, "device", "JaxRuntimeError: INTERNAL: CUDA error: : CUDA_ERROR_LAUNCH_FAILED: unspecified"),
        (1, NO_MEMORY, "run", "it ended with status 1: jax.errors.JaxRuntimeError: RESOURCE_EXHAUSTED: Out of memory"),
        (-signal.SIGABRT, CHECK_FAILED, "signal", "it was ended by SIGABRT: Check failed: status == CUDA_SUCCESS"),
        (-signal.SIGABRT, LAUNCH_FAILED, "device", "it was ended by SIGABRT: jax.errors.JaxRuntimeError: INTERNAL"),
        (-signal.SIGKILL, NO_MEMORY, "signal", "it was ended by SIGKILL"),
        (1, "RuntimeError: a\nsomething beside", "run", "it ended with status 1: RuntimeError: a"),
        (1, "something beside", "run", "it ended with status 1: something beside"),
        (2, f"error: the GPU had a problem\n{NO_MEMORY}", "run", "the GPU had a problem"),
        (3, "", "run", "it ended with status 3"),
    ],
)
def test_an_ending_is_told_by_the_line_with_the_message(tmp_path, status, text, cause, sentence):
    log = tmp_path / "sweep.log"
    log.write_text(f"{LAUNCH_FAILED}{text}")  # the first part is that of an earlier job
    ending = endings.read_ending(status, log, len(LAUNCH_FAILED))
    assert sentence in ending.sentence
    assert ending.cause.value == cause
    assert "stream_executor" not in ending.sentence


def test_a_run_is_begun_again_twice_after_errors_of_the_device_and_as_long_as_it_gets_further(tmp_path):
    error = (1, LAUNCH_FAILED)
    runs = [FakeRun(tmp_path, name) for name in ("twice", "always", "slowly")]
    shares = iter((0.1, 0.2, 0.3, 0.4))
    launch = FakeJobs(twice=[error] * 2, always=[error] * 4, slowly=[error] * 4)
    runs[2].progress = lambda: next(shares, 1.0)
    outcome, said = _execute(runs, launch)
    assert (runs[0].left, runs[2].left, outcome.ended) == ([], [], {})
    assert list(outcome.failed) == [runs[1].folder]
    assert "CUDA_ERROR_LAUNCH_FAILED" in outcome.failed[runs[1].folder]
    assert sum("run always: begun again after an error of the device" in line for line in said) == 2
    assert not _execute(runs, launch)[1]  # the count is kept, until the run is told to begin again
    forget_failures(runs)
    assert not _execute(runs, launch)[0].failed

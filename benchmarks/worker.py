"""Measurements in a process of their own, so that a crash, a hang or a GPU in a broken state costs one row of a table.

The module of a worker has a function `handle(request)` that yields one answer, a dictionary with the key "name", for
every name in `request["names"]`, in that order. Requests and answers travel as lines of JSON; whatever else the worker
prints goes to the console. An answer with the key "fatal" says that the process can no longer be used.
"""

import importlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parent.parent
# A worker that has said nothing for so long hangs; all programs of a request are compiled before the first answer.
PATIENCE_SECONDS = 150.0
NOT_REACHED = "not reached within the time limit"


class Worker:
    """A process that answers requests; it starts with the first one, and again after every failure."""

    def __init__(self, module: str, environment: Mapping[str, str] | None = None):
        self._command = [sys.executable, "-c", f"from benchmarks.worker import serve; serve({module!r})"]
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen | None = None
        self._lines: queue.Queue[str | None] = queue.Queue()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def answers(self, request: dict[str, Any], names: Sequence[str], deadline: float) -> Iterator[dict[str, Any]]:
        """Yield one answer per name; {"name", "error"} for one that kills the process, hangs or is not reached.

        `deadline` is a time of `time.monotonic()`. All names are asked for at once, so that the worker can prepare them
        together; where that fails, those without an answer are asked for one by one.
        """
        groups = [list(names)]
        while groups:
            group = groups.pop(0)
            if time.monotonic() > deadline:
                yield from ({"name": name, "error": NOT_REACHED} for name in group)
                continue
            failure, alone = "", len(group) == 1
            for answer in self._ask({**request, "names": group}, deadline):
                if "failure" in answer:
                    failure = answer["failure"]
                    break
                group.remove(answer["name"])
                yield answer
            if alone and group:
                yield {"name": group[0], "error": failure or "the worker gave no answer"}
            else:
                groups = [[name] for name in group] + groups

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()
            self._process = None

    def _ask(self, request: dict[str, Any], deadline: float) -> Iterator[dict[str, Any]]:
        """Yield the answers to one request, at last {"failure"} if it did not get to its end."""
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._start()
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            yield {"failure": self._end("the process ended while idle")}
            return
        while True:
            limit = min(PATIENCE_SECONDS, max(deadline - time.monotonic(), 1.0))
            try:
                line = self._lines.get(timeout=limit)
            except queue.Empty:
                yield {"failure": self._end(f"no answer for {limit:.0f} s, stopped")}
                return
            if line is None:
                status = self._process.wait()
                yield {"failure": self._end(f"the process died with status {status}")}
                return
            answer = json.loads(line)
            if "finished" in answer:
                return
            if "failure" in answer:
                yield {"failure": self._end(answer["failure"])}
                return
            yield answer

    def _start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self._environment, cwd=ROOT
        )
        self._lines = queue.Queue()
        threading.Thread(target=_forward_lines, args=(self._process.stdout, self._lines), daemon=True).start()

    def _end(self, reason: str) -> str:
        self.close()
        return reason


def _forward_lines(stream: IO[str], lines: "queue.Queue[str | None]") -> None:
    with stream:
        for line in stream:
            lines.put(line)
    lines.put(None)


def serve(module: str) -> None:
    """Answer the requests that arrive on standard input with `handle` of `module`, until it is closed."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    handle = importlib.import_module(module).handle
    for line in sys.stdin:
        try:
            for answer in handle(json.loads(line)):
                print(json.dumps(answer), file=answers, flush=True)
                if answer.get("fatal"):
                    os._exit(1)
        except Exception as error:  # the one place where everything that a measurement can raise becomes a row
            print(json.dumps({"failure": reason(error)}), file=answers, flush=True)
            os._exit(1)
        print(json.dumps({"finished": True}), file=answers, flush=True)


def reason(error: BaseException) -> str:
    """Return why something failed, in one short line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:200]

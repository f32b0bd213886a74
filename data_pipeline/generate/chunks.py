"""Solving the samples of a data set in chunks, on several processes, with every finished chunk kept on disk.

The workers are separate programs, not forks: forking is unsafe once JAX runs its threads, and `multiprocessing`'s
spawning would import the caller's main module again in every worker. Each uses one BLAS thread, so that a sample's last
digits do not depend on the number of workers.
"""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from data_pipeline.generate.files import chunk_path
from data_pipeline.generate.progress import Advance
from data_pipeline.numpy_files import open_npz
from runtime import signals

_Layout = tuple[tuple[int, ...], str]
_ROOT = Path(__file__).resolve().parents[2]
_THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
# A worker that uses JAX shares the GPU with the program that started it, which may hold most of the memory.
_NO_PREALLOCATION = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


def split(num: int, size: int) -> list[range]:
    """Return the index ranges of the chunks of at most `size` samples that make up `num` samples."""
    return [range(start, min(start + size, num)) for start in range(0, num, size)]


def unfinished(folder: Path, chunks: Sequence[range], ragged: bool = False) -> list[range]:
    """Return the chunks not yet kept in `folder`; damaged ones are removed, so that they are solved again.

    The arrays of all chunks must be alike, of `ragged` ones but for their lengths.
    """
    names = {path.name for path in folder.glob("*.npz")}
    existing = [chunk for chunk in chunks if chunk_path(folder, chunk).name in names] if names else []
    layouts = {chunk: _layout(chunk_path(folder, chunk), len(chunk), ragged) for chunk in existing}
    sound = [layout for layout in layouts.values() if layout is not None]
    alike = all(layout == sound[0] for layout in sound)
    kept = {chunk for chunk in existing if layouts[chunk] is not None and alike}
    for chunk in set(existing) - kept:
        chunk_path(folder, chunk).unlink()
    return [chunk for chunk in chunks if chunk not in kept]


def _layout(path: Path, samples: int, ragged: bool) -> dict[str, _Layout] | None:
    """Return shape of a sample and dtype of each array of a chunk; None if the file is damaged or another.

    Of `ragged` samples the shape is the number of its axes.
    """
    try:
        with open_npz(path) as archive:
            # Reading compares the sums in the file.
            arrays = {name: archive.read(name) for name in archive.files}
        layout = {
            name: ((array.ndim,) if ragged else array.shape[1:], array.dtype.str)
            for name, array in arrays.items()
            if len(array) == samples
        }
        return layout if len(layout) == len(arrays) > 0 else None
    except (ValueError, TypeError):  # TypeError: an array without rows
        return None


class Samples(Mapping[str, np.ndarray]):
    """The arrays of all samples, in order, read from the kept chunks once they are asked for."""

    def __init__(self, folder: Path, chunks: Sequence[range]) -> None:
        self._paths = [chunk_path(folder, chunk) for chunk in chunks]
        self._num = sum(map(len, chunks))
        with np.load(self._paths[0]) as arrays:
            self._names = list(arrays)
        self._arrays: dict[str, np.ndarray] = {}

    @property
    def num(self) -> int:
        """The number of samples."""
        return self._num

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, name: str) -> np.ndarray:
        """Return one array of all samples; it stays in memory."""
        if name not in self._arrays:
            self._arrays[name] = self._read(name)
        return self._arrays[name]

    def rows(self) -> Iterator[dict[str, np.ndarray]]:
        """Yield the arrays of one sample after the other, with no more than a chunk in memory."""
        for path in self._paths:
            with np.load(path) as arrays:
                chunk = dict(arrays)
            for row in range(len(chunk[self._names[0]])):
                yield {name: chunk[name][row] for name in self._names}

    def _read(self, name: str) -> np.ndarray:
        start, result = 0, None
        for path in self._paths:
            with np.load(path) as arrays:
                part = arrays[name]
            if result is None:
                result = np.empty((self._num, *part.shape[1:]), part.dtype)
            result[start : start + len(part)] = part
            start += len(part)
        return result


def solve(
    module: str,
    seed: int,
    folder: Path,
    chunks: Sequence[range],
    workers: int,
    advance: Advance,
    settings: Mapping[str, int | str | None] | None = None,
) -> None:
    """Solve `chunks` with the generator of `module` and keep each in `folder`.

    Arguments: `workers`, number of processes; `advance`, called in this thread with the size of each finished chunk;
    `settings`, the fields of the generator's `Settings`.
    Raises OSError when a chunk cannot be written, RuntimeError when a worker stops; finished chunks are kept.
    """
    todo: queue.SimpleQueue[range] = queue.SimpleQueue()
    results: queue.SimpleQueue[int | Exception] = queue.SimpleQueue()
    for chunk in chunks:
        todo.put(chunk)
    with _started(module, seed, folder, min(workers, len(chunks)), settings or {}) as processes:
        for process in processes:
            threading.Thread(target=_feed, args=(process, todo, results), daemon=True).start()
        for _ in chunks:
            result = results.get()
            if isinstance(result, Exception):
                raise result
            advance(result)


@contextmanager
def _started(
    module: str, seed: int, folder: Path, count: int, settings: Mapping[str, int | str | None]
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Yield `count` workers and end them afterwards, in the middle of a chunk if need be."""
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, **_NO_PREALLOCATION, **dict.fromkeys(_THREAD_LIMITS, "1")}
    arguments = [module, str(seed), str(folder.resolve()), json.dumps(settings)]
    command = [sys.executable, "-m", "data_pipeline.generate.worker", *arguments]
    with ExitStack() as stack:
        processes: list[subprocess.Popen[bytes]] = []
        stack.enter_context(signals.undone_at_end(lambda: _kill(processes)))
        for _ in range(count):
            # Their own session keeps Ctrl-C away from the workers: only this process answers it.
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                env=environment,
                start_new_session=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            processes.append(process)
        yield processes


def _kill(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.kill()
    for process in processes:
        process.wait()


def _feed(
    process: subprocess.Popen[bytes],
    todo: "queue.SimpleQueue[range]",
    results: "queue.SimpleQueue[int | Exception]",
) -> None:
    """Give chunks to one worker until none is left; report the size of each, or the error that ended the work."""
    while True:
        try:
            chunk = todo.get_nowait()
        except queue.Empty:
            return
        try:
            results.put(_request(process, chunk))
        except Exception as error:
            results.put(error)
            return


def _request(process: subprocess.Popen[bytes], chunk: range) -> int:
    answer = b""
    try:
        process.stdin.write(f"{chunk.start} {chunk.stop}\n".encode())
        answer = process.stdout.readline()
    except BrokenPipeError:
        pass  # The worker has stopped: the empty answer says so below.
    if answer == b"done\n":
        return len(chunk)
    if answer:
        raise OSError(answer.decode().removeprefix("failed ").strip())
    raise RuntimeError(
        f"a worker stopped with exit code {process.wait()} at samples {chunk.start} to {chunk.stop - 1}; if it ran out "
        "of memory use fewer workers, and run the same command again: finished samples are kept"
    )

"""Ending a small run at random moments, again and again: does it end in order, and does it lose anything?

    python -m tests.experiments.interrupts --kills=100 --interrupts=40 --terminations=40 --parallel=2

Runs are started, ended by SIGKILL, SIGINT or SIGTERM at a random moment of a phase chosen at random, and started again
in the same folder; after some ends each run may finish and is compared with a run that nobody ended. Prints a table. An
end is lost where a run does not go on from the newest checkpoint it had, or finishes with other results or checkpoints.
An end by SIGINT or SIGTERM is unclean where the exit status is not 130 or 143, where it takes longer than `PATIENCE`,
where more than sentences are printed, or where steps that were logged are in no checkpoint. Programs are compiled as
those of the tests, in half the time.
"""

import argparse
import itertools
import json
import os
import queue
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.training.records import read_log
from flare_jax.convert.checkpoints import checkpoint_steps, read_record
from tests.compilation import compile_fast
from tests.experiments.programs import ROOT, environment
from tests.program_server import accept_interrupts

SMALL_RUN = (
    "--config=configs/flare_elas.py:smoke",
    "--config.data.num_generate=12",
    "--config.data.n_train=8",
    "--config.data.n_test=3",
    "--config.model.channel_dim=8",
    "--config.model.num_blocks=1",
    "--config.model.num_heads=2",
    "--config.model.num_latents=4",
    "--config.train.epochs=20",
    "--config.optimizer.name=adamw",
)
STATUS = {signal.SIGKILL: -signal.SIGKILL, signal.SIGINT: 130, signal.SIGTERM: 143}
PATIENCE = 120.0
LOG = "metrics.jsonl"
# A phase begins when its sign in the folder of the run appears or changes; the moment is up to so many times the length
# of an uninterrupted run later.
PHASES = {
    "any": ("", 1.0),
    "start, imports, data": ("", 0.4),
    "first save": ("checkpoints", 0.1),
    "compilation": ("checkpoints/0", 0.2),
    "training": ("metrics.jsonl", 0.2),
    "report": ("eval.json", 0.1),
}
# Of a run that has been ended before, the others are behind it.
_AGAIN = ("any", "training", "report")
_NOT_SENTENCES = ("Traceback", "Fatal Python error", "Segmentation fault", "Exception ignored", "core dumped")


@dataclass(frozen=True)
class Straight:
    """What a run gives that nobody ends, and how long it takes."""

    seconds: float
    results: dict[str, object]


@dataclass(frozen=True)
class End:
    """One end of a run: what it was sent, in which phase and what came of it."""

    number: int
    phase: str
    seconds: float
    unclean: str = ""
    lost: str = ""


def small_run(folder: Path, data: Path, *more: str) -> list[str]:
    """Return the command of the run in `folder`."""
    command = [sys.executable, "-m", "experiments.pdebench", *SMALL_RUN, *more]
    return [*command, f"--data_dir={data}", f"--workdir={folder}"]


def finish(command: Sequence[str]) -> None:
    """Let a run go to its end; raises AssertionError if it fails."""
    result = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def results(folder: Path) -> dict[str, object]:
    """Return what two equal runs have in common: their report, and the kept checkpoints with sums of all arrays."""
    checkpoints = folder / "checkpoints"
    steps = checkpoint_steps(checkpoints)
    sums = {step: read_record(checkpoints / str(step))["digest"] for step in steps}
    report = json.loads((folder / "eval.json").read_text())
    del report["data"]  # says where the files are
    return {"report": report, "checkpoints": sums}


def end_at(
    command: Sequence[str],
    sign: Path,
    folder: Path,
    number: int,
    moment: float,
    start: Callable[..., Any] = subprocess.Popen,
) -> End | None:
    """Start the run in `folder` and send it `number`, `moment` seconds after `sign`; None if it ended before that.

    `sign` is a file that appears or changes; the folder itself stands for the first lines of the program. `start` is
    given what `subprocess.Popen` is.
    """
    before = max(checkpoint_steps(folder / "checkpoints"), default=-1)
    old, log = _stamp(sign), _stamp(folder / LOG)
    with tempfile.TemporaryFile("w+") as output:
        process = start(command, cwd=ROOT, env=environment(), stdout=output, stderr=subprocess.STDOUT)
        while process.poll() is None and not (_answers(process.pid) if sign == folder else _stamp(sign) != old):
            time.sleep(0.002)
        try:
            process.wait(moment)
            return None
        except subprocess.TimeoutExpired:
            process.send_signal(number)
        begin = time.monotonic()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        seconds = time.monotonic() - begin
        output.seek(0)
        text = output.read()
    after = max(checkpoint_steps(folder / "checkpoints"), default=-1)
    # What a start left that trained no step is replaced by the next one, the checkpoint before the first step too.
    lost = f"checkpoint {before} is gone, the newest is {after}" if after < before and before > 0 else ""
    # What an earlier process logged before it was killed says nothing of this one.
    trained = number != signal.SIGKILL and _stamp(folder / LOG) != log
    unclean = _unclean(number, process.returncode, text, folder, after if trained else None)
    return End(number, sign.name, seconds, unclean, lost)


def _stamp(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.exists() else None


def _answers(pid: int) -> bool:
    """Tell whether the first lines of the program have run, before which Python itself answers the signals.

    These lines start a thread, the first one beside the main thread.
    """
    threads = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("Threads")]
    return bool(threads) and int(threads[0].split()[1]) > 1


def _unclean(number: int, status: int, text: str, folder: Path, newest: int | None) -> str:
    """Return what is wrong with the end of a run, nothing where all is right or the run had reached its own end.

    `newest` is the newest checkpoint, where steps that are logged must be in one.
    """
    found = [words for words in _NOT_SENTENCES if words in text]
    if found:
        return f"printed {found[0]}: {text[-2000:]}"
    if status not in (0, STATUS[number]):
        return f"exit status {status}: {text[-2000:]}"
    log = read_log(folder / LOG, lambda line: None)
    logged = max((line["step"] for line in log), default=-1)
    if newest is not None and logged > newest:
        return f"step {logged} is logged but the newest checkpoint is {newest}"
    if status == 0 and not (folder / "eval.json").exists():
        return "exit status 0 without a report"
    return ""


def end_often(
    folder: Path, data: Path, numbers: "queue.SimpleQueue[int]", most: int, chance: random.Random, straight: Straight
) -> list[End]:
    """End one run by up to `most` of the signals in `numbers`, let it finish, and compare it with `straight`."""
    done: list[End] = []
    command = small_run(folder, data)
    while len(done) < most and not (folder / "eval.json").exists():
        try:
            number = numbers.get_nowait()
        except queue.Empty:
            break
        end = None
        while end is None and not (folder / "eval.json").exists():
            phase = chance.choice(_AGAIN if (folder / "metrics.jsonl").exists() else list(PHASES))
            sign, share = PHASES[phase]
            end = end_at(command, folder / sign, folder, number, chance.uniform(0.0, share * straight.seconds))
        if end is None:
            numbers.put(number)
        else:
            done.append(replace(end, phase=phase))
    lost = ""
    try:
        finish(command)
        different = [name for name, value in results(folder).items() if value != straight.results[name]]
        lost = f"finished with another {' and '.join(different)}" if different else ""
    except AssertionError as error:
        lost = f"did not finish: {str(error)[-2000:]}"
    return [replace(end, lost=end.lost or lost) for end in done]


def describe(end: End) -> str:
    """Return an end as a line."""
    came = " ".join(f"{end.lost and 'LOST: '}{end.lost} {end.unclean and 'UNCLEAN: '}{end.unclean}".split())
    return f"{signal.Signals(end.number).name} in {end.phase}: {came or 'in order'}, {end.seconds:.1f} s"


def table(ends: Sequence[End]) -> str:
    """Return the counts as a table."""
    lines = [
        "| signal | phase | ends | lost | unclean | longest until the end, s |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for number in STATUS:
        for phase in (*PHASES, "all"):
            some = [end for end in ends if end.number == number and phase in (end.phase, "all")]
            if some:
                counts = (len(some), sum(map(bool, (e.lost for e in some))), sum(map(bool, (e.unclean for e in some))))
                longest = f"{max(end.seconds for end in some):.1f}"
                lines.append(
                    f"| {signal.Signals(number).name} | {phase} | {' | '.join(map(str, counts))} | {longest} |"
                )
    return "\n".join(lines)


def experiment(options: argparse.Namespace) -> list[End]:
    """End runs as the options say."""
    numbers = [signal.SIGKILL] * options.kills + [signal.SIGINT] * options.interrupts
    numbers += [signal.SIGTERM] * options.terminations
    random.Random(options.seed).shuffle(numbers)
    left: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in numbers:
        left.put(number)
    ends: list[End] = []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        finish(small_run(root / "data_only", root / "data"))
        begin = time.monotonic()
        finish(small_run(root / "straight", root / "data"))
        straight = Straight(time.monotonic() - begin, results(root / "straight"))
        runs = itertools.count()

        def work() -> None:
            while not left.empty():
                run = next(runs)
                # Every third run makes its own data, and may be ended while it does.
                data = root / ("data" if run % 3 else f"data_{run}")
                chance = random.Random(f"{options.seed} {run}")
                done = end_often(root / f"run_{run}", data, left, options.length, chance, straight)
                ends.extend(done)
                print("\n".join(map(describe, done)), f"{len(ends)} of {len(numbers)} ends", sep="\n", flush=True)

        with ThreadPoolExecutor(options.parallel) as pool:
            for job in [pool.submit(work) for _ in range(options.parallel)]:
                job.result()
    return ends


def main() -> None:
    """Run the command (see the module's description)."""
    accept_interrupts()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, count in (("kills", 100), ("interrupts", 40), ("terminations", 40)):
        parser.add_argument(f"--{name}", type=int, default=count)
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--length", type=int, default=6, help="ends of one run before it may finish")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    ends = experiment(options)
    print(table(ends))
    sys.exit(any(end.lost or end.unclean for end in ends))


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # several programs at once would each take most of a GPU's memory
    compile_fast()
    main()

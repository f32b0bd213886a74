"""How fast is each kernel, forward and backward, against PyTorch and the roofline floor? Run on a GPU:

    python -m benchmarks.kernels [--op=flare_mixer,...] [--shape=million_m128,...] [--dtype=bfloat16,...]
        [--implementations=pallas,torch,...] [--quick] [--seconds=540] [--out=out/kernels]

For every case it measures the PyTorch baselines, then all implementations that serve it. Times are medians after
warm-up, for short calls of a loop in one program, with inputs that stay in the cache if they fit; memory is the peak of
forward with backward, inputs included; the ratio is eager PyTorch's time over the row's; the floor is that of
`benchmarks.roofline`, with what limits forward and backward. A star marks what `implementation=None` chooses. What
fails is a row with the reason. PyTorch and JAX run in processes of their own, of which one at a time holds memory of
the GPU. After every row kernels.json and kernels.md in the folder --out are complete. --quick takes a tiny shape of
every op, on any device.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.cases import BASELINES, IMPLEMENTATIONS, Case, select_cases
from benchmarks.command import check_gpu, exit_status, names_in, platform_apart
from benchmarks.roofline import floor
from benchmarks.timing import markdown_table, print_table
from benchmarks.worker import Worker
from runtime.command import Parser, seconds
from runtime.json_files import write_json

DIRECTIONS = ("forward", "both")
HEADER = (
    "shape", "dtype", "implementation", "fwd ms", "floor", "reached", "x torch", "fwd+bwd ms", "floor", "reached",
    "x torch", "limit", "peak MiB", "",
)  # fmt: skip
# XLA takes its memory at once, which keeps it in one piece; the PyTorch process keeps little when it is not measuring.
JAX_ENVIRONMENT = {"XLA_PYTHON_CLIENT_PREALLOCATE": "true", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.88"}


class Results:
    """The rows measured so far, printed and written as they come."""

    def __init__(self, folder: str):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.devices: list[str] = []
        self.rows: list[dict[str, Any]] = []

    def add(self, case: Case, answer: dict[str, Any]) -> None:
        """Take one answer of a worker."""
        device = answer.pop("device", None)
        if device is not None and device not in self.devices:
            self.devices.append(device)
        row = {"op": case.op, "shape": case.name, "dtype": case.dtype, "sizes": vars(case.shape), **answer}
        for way in DIRECTIONS:
            work = floor(case, way)
            row[f"{way}_floor"] = {"seconds": work.seconds, "limit": work.limit, **work._asdict()}
        self.rows.append(row)
        if "unserved" not in row:
            times = [milliseconds(seconds_of(row, way)) for way in DIRECTIONS]
            line = f"{case.label} {label(row)}: forward {times[0]} ms, forward+backward {times[1]} ms"
            print(f"{line} {why_failed(row)}".rstrip(), flush=True)
        self.write()

    @property
    def device(self) -> str:
        """Devices and versions of everything that was measured."""
        return "; ".join(self.devices)

    def cells(self, row: dict[str, Any]) -> list[str]:
        """Return the cells of a row under `HEADER`."""
        numbers = []
        for way in DIRECTIONS:
            seconds, baseline, least = seconds_of(row, way), self.baseline_seconds(row, way), row[f"{way}_floor"]
            reached = "-" if seconds is None else f"{least['seconds'] / seconds:.0%}"
            ratio = "-" if seconds is None or baseline is None else f"{baseline / seconds:.1f}x"
            numbers += [milliseconds(seconds), milliseconds(least["seconds"]), reached, ratio]
        mebibytes = row.get("both", {}).get("mebibytes")
        memory = "-" if mebibytes is None else f"{mebibytes:.0f}"
        limit = row["both_floor"]["limit"]
        return [row["shape"], row["dtype"], label(row), *numbers, limit, memory, why_failed(row)]

    def baseline_seconds(self, row: dict[str, Any], way: str) -> float | None:
        """Return the time of eager PyTorch for the same case."""
        same = (x for x in self.rows if x["name"] == "torch" and case_key(x) == case_key(row))
        return next((seconds_of(x, way) for x in same), None)

    def tables(self) -> Iterator[tuple[str, list[list[str]]]]:
        """Yield every op with its rows, without the implementations that do not serve a case."""
        served = [row for row in self.rows if "unserved" not in row]
        order = list(dict.fromkeys(map(case_key, self.rows)))
        served.sort(key=lambda row: order.index(case_key(row)))
        for op, rows in itertools.groupby(served, key=lambda row: row["op"]):
            yield op, [self.cells(row) for row in rows]

    def write(self) -> None:
        """Write kernels.json and kernels.md."""
        document = {"device": self.device, "rows": self.rows}
        write_json(self.folder / "kernels.json", document)
        parts = [f"# Kernels\n\n{self.device}\n"]
        parts += [f"## {op}\n\n{markdown_table(HEADER, rows)}" for op, rows in self.tables()]
        (self.folder / "kernels.md").write_text("\n".join(parts))


def case_key(row: dict[str, Any]) -> tuple[str, str, str]:
    """Return what names the case of a row."""
    return row["op"], row["shape"], row["dtype"]


def label(row: dict[str, Any]) -> str:
    """Return the implementation, with a star where it is the one that None chooses."""
    return row["name"] + ("*" if row.get("default") else "")


def seconds_of(row: dict[str, Any], way: str) -> float | None:
    """Return the time of one direction, None where it was not measured."""
    return row.get(way, {}).get("seconds")


def milliseconds(seconds: float | None) -> str:
    """Return a time with three or four digits."""
    return "-" if seconds is None else f"{1e3 * seconds:.4f}" if seconds < 1e-3 else f"{1e3 * seconds:.2f}"


def why_failed(row: dict[str, Any]) -> str:
    """Return the reason for missing times, empty if there are none."""
    errors = {way: row.get(way, {}).get("error", "") for way in DIRECTIONS}
    if "error" in row:
        return row["error"]
    if errors["forward"] == errors["both"]:
        return errors["forward"]
    return "; ".join(f"{way}: {error}" for way, error in errors.items() if error)


def measure(cases: list[Case], names: tuple[str, ...], results: Results, seconds: float, budget: float) -> None:
    """Measure all cases, op by op, within `seconds`; `names` are the wanted implementations, empty for all."""
    deadline = time.monotonic() + seconds
    with Worker("benchmarks.kernels_torch") as baselines:
        for op, group in itertools.groupby(cases, key=lambda case: case.op):
            of_op = list(group)
            for case in of_op:
                for answer in baselines.answers(request(case, budget), wanted(case.baselines, names), deadline):
                    results.add(case, answer)
            with Worker("benchmarks.kernels_jax", JAX_ENVIRONMENT) as ours:
                for case in of_op:
                    for answer in ours.answers(request(case, budget), wanted(IMPLEMENTATIONS[op], names), deadline):
                        results.add(case, answer)


def request(case: Case, budget: float) -> dict[str, Any]:
    """Return what a worker is asked; every number takes about `budget` seconds."""
    return {"op": case.op, "shape": case.name, "dtype": case.dtype, "budget": budget}


def wanted(offered: tuple[str, ...], names: tuple[str, ...]) -> list[str]:
    """Return the offered implementations that were asked for."""
    return [name for name in offered if not names or name in names]


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[Case]]:
    """Read the command line; exit with one sentence where it cannot be served."""
    parser = Parser(prog="python -m benchmarks.kernels", description=__doc__.splitlines()[0])
    parser.add_argument("--op", type=names_in, default=(), help="ops, with commas; default all")
    parser.add_argument("--shape", type=names_in, default=(), help="named shapes; default all of benchmarks/cases.py")
    parser.add_argument("--dtype", type=names_in, default=(), help="float32, bfloat16; default both")
    parser.add_argument(
        "--implementations", type=names_in, default=(), help="also torch, torch-compile, torch-graph, fla"
    )
    parser.add_argument("--quick", action="store_true", help="tiny shapes: a trial, on any device")
    parser.add_argument("--seconds", type=seconds, default=540.0, help="time limit of the whole run")
    parser.add_argument("--out", default="out/kernels", help="folder of kernels.json and kernels.md")
    options = parser.parse_args(arguments)
    known = {*BASELINES, *itertools.chain(*IMPLEMENTATIONS.values())}
    unknown = [name for name in options.implementations if name not in known]
    if unknown:
        parser.error(f"implementation is {unknown[0]!r}; give one or more of {', '.join(sorted(known))}.")
    try:
        return options, select_cases(options.op, options.shape, options.dtype, quick=options.quick)
    except ValueError as error:
        parser.error(str(error))


def main(arguments: list[str]) -> int:
    """Measure and print one table per op."""
    options, cases = parse(arguments)
    if not options.quick:
        check_gpu("--quick", platform_apart())
    results = Results(options.out)
    measure(cases, options.implementations, results, options.seconds, budget=0.05 if options.quick else 0.6)
    print(f"\n{results.device}")
    for op, rows in results.tables():
        print(f"\n{op}")
        print_table(HEADER, rows)
    for row in results.rows:
        if "unserved" in row:
            print(f"{row['op']} {row['shape']} {row['dtype']}, not served by {row['name']}: {row['unserved']}")
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(main))

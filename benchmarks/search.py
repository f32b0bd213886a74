"""Which launch of each kernel is the fastest, and by how much does it beat that of table.py? Run on a GPU:

    python -m benchmarks.search [--op=flare_mixer,causal_flare,...] [--shape=million_m128,...]
        [--dtype=bfloat16,...] [--implementation=pallas] [--kernel=gather,...] [--seconds=470] [--out=out/search]
    python -m benchmarks.search --op=flare_mixer --sizes=1,40000,8,256,8 --dtype=float32

For every case each kernel is searched on its own: first the launch of the table, then tiles and warps, nearest first,
then programs, stages and float32 products around the two best. Candidates that cannot fit into registers or shared
memory are left out, the others are compiled side by side. What was found is compared with the definition of the op,
forward and backward, and where it disagrees every kernel falls back to its fastest launch that agrees; at last the
whole op is timed with the launches of the table and with those found. The time that is left is shared equally by the
kernels that are left; the last comparison may take up to half a minute more. After every group of candidates
search.json in the folder --out is complete; the rows for table.py are printed at the end. --sizes are the fields of
the op's shape, in order.
"""

import argparse
import dataclasses
import itertools
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.cases import QUICK, SHAPES
from benchmarks.command import check_gpu, exit_status, names_in, platform_apart
from benchmarks.search_jax import SPACES
from benchmarks.search_kernel import TOLERANCE, Ask, Search, SearchCase, is_correct
from benchmarks.timing import print_table
from benchmarks.worker import Worker
from runtime.command import Parser, integer, seconds
from runtime.json_files import write_json

# What one run tunes by default: the shapes that the project is measured on.
DEFAULTS = (
    ("flare_mixer", "million_m128", "bfloat16"),
    ("flare_mixer", "million_m512", "bfloat16"),
    ("flare_mixer", "million_m2048", "bfloat16"),
    ("flare_mixer", "million_m128", "float32"),
    ("flare_mixer", "million_m512", "float32"),
    ("flare_mixer", "million_m2048", "float32"),
    ("flare_mixer", "darcy", "float32"),
    ("flare_mixer", "drivaerml_40k_d16", "float32"),
    ("flare_mixer", "drivaerml_40k_d16", "bfloat16"),
    ("gather", "million_m128", "bfloat16"),
    ("gather", "million_m128", "float32"),
    ("triple_attention", "points_500k_d32", "bfloat16"),
    ("causal_linear_attention", "long_d64", "bfloat16"),
    ("gated_linear_attention", "gla_15m", "bfloat16"),
    ("causal_flare", "text_1k", "bfloat16"),
)
# What comparing the last case may take after the search.
GRACE_SECONDS = 30.0
JAX_ENVIRONMENT = {"XLA_PYTHON_CLIENT_PREALLOCATE": "true", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.9"}


class Report:
    """The results so far, written as they come."""

    def __init__(self, folder: str):
        self.path = Path(folder) / "search.json"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.device = ""
        self.cases: list[dict[str, Any]] = []

    def start(self, case: SearchCase) -> dict[str, Any]:
        """Add a case and return its entry."""
        self.cases.append({**case._asdict(), "kernels": {}})
        return self.cases[-1]

    def write(self) -> None:
        """Write search.json."""
        write_json(self.path, {"device": self.device, "cases": self.cases})


def run(cases: list[SearchCase], kernels: tuple[str, ...], report: Report, seconds: float, group: int) -> None:
    """Search all kernels of all cases within `seconds`, `group` candidates at a time."""
    end = time.monotonic() + seconds
    chosen = {case: [name for name in case.space.KERNELS if not kernels or name in kernels] for case in cases}
    # Timing the whole op at the end of a case counts as one more kernel.
    tasks = sum(len(names) + 1 for names in chosen.values())
    with Worker("benchmarks.search_jax", JAX_ENVIRONMENT) as worker:
        for case, names in chosen.items():
            print(case.label, flush=True)
            entry = report.start(case)
            table = found = case.space.table(case.shape, case.dtype, case.implementation)
            searches = []
            for kernel in names:
                now = time.monotonic()
                deadline = now + max(0.0, end - now) / tasks
                tasks -= 1
                ask, save = asker(worker, case, kernel, report, end), saver(report, entry, kernel)
                searches.append(Search(case, kernel, found, ask, save))
                found = searches[-1].run(deadline, group)
            tasks -= 1
            ask = asker(worker, case, names[0], report, end + GRACE_SECONDS)
            if found != table and not is_correct(case, found, ask):
                found = table
                for search in searches:
                    found = search.fastest_correct(found)
            compare(table, found, entry, ask)
            report.write()


def saver(report: Report, entry: dict[str, Any], kernel: str) -> Callable[[dict[str, Any]], None]:
    """Return the function that keeps the record of one kernel's search."""

    def save(record: dict[str, Any]) -> None:
        entry["kernels"][kernel] = record
        report.write()

    return save


def asker(worker: Worker, case: SearchCase, kernel: str, report: Report, end: float) -> Ask:
    """Return the function that has launches measured by the worker."""
    best: list[float] = []

    def ask(task: str, launches: list[Any]) -> list[dict[str, Any]]:
        names = [str(number) for number in range(len(launches))]
        request = {
            "op": case.op,
            "sizes": case.sizes,
            "dtype": case.dtype,
            "implementation": case.implementation,
            "kernel": kernel,
            "task": task,
            "best": min(best, default=None),
            "candidates": {name: dataclasses.asdict(x) for name, x in zip(names, launches, strict=True)},
        }
        answers = {answer["name"]: answer for answer in worker.answers(request, names, end)}
        best.extend(answer["seconds"] for answer in answers.values() if "seconds" in answer)
        report.device = next((x["device"] for x in answers.values() if "device" in x), report.device)
        return [answers[name] for name in names]

    return ask


def compare(table: Any, found: Any, entry: dict[str, Any], ask: Ask) -> None:
    """Time the whole op with the launches of the table and with those found, and print both."""
    launches = {"table": table, "found": found} if found != table else {"table": table}
    answers = dict(zip(launches, ask("whole", list(launches.values())), strict=True))
    entry["found"] = repr(found)
    entry["whole"] = {
        name: {key: answer.get(key) for key in ("forward", "both", "rms", "error")} for name, answer in answers.items()
    }
    lines = []
    for name, answer in answers.items():
        numbers = (answer.get("forward"), answer.get("both"))
        cells = ["-" if seconds is None else f"{1e3 * seconds:.4f}" for seconds in numbers]
        rms = "-" if answer.get("rms") is None else f"{answer['rms']:.1e}"
        lines.append((name, *cells, rms, answer.get("error", "")))
    print_table(("launches", "forward ms", "forward+backward ms", "rms error", ""), lines)


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[SearchCase]]:
    """Read the command line; exit with one sentence where it cannot be served."""
    parser = Parser(prog="python -m benchmarks.search", description=__doc__.splitlines()[0])
    parser.add_argument("--op", type=names_in, default=(), help=f"default {','.join(SPACES)}")
    parser.add_argument("--shape", type=names_in, default=(), help="named shapes; default those that are measured")
    parser.add_argument("--sizes", help="sizes of the shape of the one --op, with commas, in place of --shape")
    parser.add_argument("--dtype", type=names_in, default=(), help="float32, bfloat16")
    parser.add_argument("--implementation", choices=("pallas", "triton"), default="pallas")
    parser.add_argument("--kernel", type=names_in, default=(), help="kernels of the one --op; default all")
    parser.add_argument("--seconds", type=seconds, default=470.0, help="time limit of the whole run")
    parser.add_argument(
        "--group", type=integer(1), default=os.cpu_count() or 1, help="candidates compiled side by side"
    )
    parser.add_argument("--out", default="out/search", help="folder of search.json")
    options = parser.parse_args(arguments)
    try:
        return options, select(options)
    except ValueError as error:
        parser.error(str(error))


def select(options: argparse.Namespace) -> list[SearchCase]:
    """Return the cases of the command line.

    Raises ValueError for a name that is not known and for options that do not go together.
    """
    ops = options.op or tuple(SPACES)
    _check("op", ops, tuple(SPACES))
    _check("dtype", options.dtype, tuple(TOLERANCE))
    _check("kernel", options.kernel, tuple(itertools.chain(*(SPACES[op].KERNELS for op in ops))))
    for op in ops:
        _check(f"implementation of {op}", (options.implementation,), SPACES[op].IMPLEMENTATIONS)
    if options.kernel and len(ops) > 1:
        raise ValueError(f"kernel is {','.join(options.kernel)} for {len(ops)} ops; give the one --op that it is of.")
    if options.sizes is not None:
        return [_sized_case(options, dtype) for dtype in options.dtype or ("bfloat16",)]
    known = {name for op in ops for name in SHAPES[op]}
    _check("shape", options.shape, tuple(sorted(known)))
    wanted = [case for case in DEFAULTS if case[0] in ops]
    if options.shape:
        dtypes = options.dtype or ("bfloat16",)
        wanted = [x for x in itertools.product(ops, options.shape, dtypes) if x[1] in SHAPES[x[0]]]
    wanted = [case for case in wanted if not options.dtype or case[2] in options.dtype]
    if not wanted:
        raise ValueError(f"no default case of {','.join(ops)} is {','.join(options.dtype)}; give a --shape.")
    return [
        SearchCase(op, name, tuple(vars(SHAPES[op][name]).values()), dtype, options.implementation)
        for op, name, dtype in wanted
    ]


def _sized_case(options: argparse.Namespace, dtype: str) -> SearchCase:
    if len(options.op) != 1 or options.shape:
        raise ValueError(f"sizes is {options.sizes}; give one --op and no --shape with it.")
    fields = list(vars(SHAPES[options.op[0]][QUICK]))
    texts = options.sizes.split(",")
    if len(texts) != len(fields) or not all(text.isdigit() and int(text) > 0 for text in texts):
        raise ValueError(f"sizes is {options.sizes}; give positive integers for {','.join(fields)}.")
    return SearchCase(options.op[0], "custom", tuple(map(int, texts)), dtype, options.implementation)


def _check(option: str, given: tuple[str, ...], known: tuple[str, ...]) -> None:
    for name in given:
        if name not in known:
            raise ValueError(f"{option} is {name!r}; give one or more of {', '.join(known)}.")


def main(arguments: list[str]) -> int:
    """Search and print what belongs into the tables."""
    options, cases = parse(arguments)
    check_gpu(here=platform_apart())
    report = Report(options.out)
    run(cases, options.kernel, report, options.seconds, options.group)
    print(f"\n{report.device}: for table.py")
    for entry in report.cases:
        print(f"{entry['op']} {entry['name']} {entry['dtype']} {entry['implementation']}:\n    {entry['found']}")
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(main))

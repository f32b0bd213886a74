"""How do time and memory of a layer grow to a million points: softmax, physics attention, FLARE? Run on a GPU:

    python -m benchmarks.scaling [--points=1024,2048,...] [--mixers=flare,softmax,physics] [--frameworks=jax,torch]
        [--sizes=128,512,2048] [--dtype=bfloat16] [--seconds=285] [--out=docs/figures] [--quick]
        [--resume]
    python -m benchmarks.scaling --plot-only [--out=docs/figures]

One layer of 128 channels and 8 heads, forward and backward, batch 1, as in the efficiency figure of the original:
softmax attention (cuDNN in JAX, fused attention in PyTorch), the physics attention of Transolver with 128, 512 and 2048
slices, FLARE with as many latents and key and value MLPs of three inner layers; in PyTorch softmax attention and FLARE,
eager under autocast. Times are medians after warm-up, with the launch of one program per call, which counts below about
0.2 ms; a call of more than four seconds is made once. Memory is the peak, inputs included. scaling.csv in the folder
--out is complete after every number, scaling.png is drawn from it. The last lines compare softmax attention with FLARE
at the largest number of points that both reach (the original: over 200 times). --quick takes few small numbers of
points, on any device. --resume keeps the
numbers of an earlier run of the same folder and measures what it did not reach.
"""

import argparse
import csv
import sys
import time
from pathlib import Path

from benchmarks.command import check_gpu, exit_status, names_in, platform_apart
from benchmarks.scaling_figure import Point, scaling_figure, series_label
from benchmarks.timing import print_table
from benchmarks.worker import NOT_REACHED, Worker
from runtime.command import Parser, seconds

FRAMEWORKS = {"torch": "benchmarks.scaling_torch", "jax": "benchmarks.scaling_jax"}
# In the order in which they are measured: what the headline compares comes first.
MIXERS = ("flare", "softmax", "physics")
TORCH_MIXERS = ("flare", "softmax")
SIZES = (128, 512, 2048)
POINTS = tuple(2**exponent for exponent in range(10, 21))
QUICK_POINTS, QUICK_SIZES = (128, 256), (16,)
DTYPES = ("bfloat16", "float16", "float32")
# The largest physics attention needs nearly all memory in one piece.
ENVIRONMENT = {"XLA_PYTHON_CLIENT_PREALLOCATE": "true", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.92"}
BUDGET_SECONDS, QUICK_BUDGET_SECONDS = 0.3, 0.02
# A single call of softmax attention on a million points takes about 20 s.
LONGEST_CALL_SECONDS = 45.0
COLUMNS = ("device", *Point._fields)


class Table:
    """The points measured so far and the file that holds them."""

    def __init__(self, path: Path):
        self.path = path
        self.devices: list[str] = []
        self.points: list[Point] = []

    @property
    def device(self) -> str:
        """Devices and versions of everything that was measured."""
        return "; ".join(self.devices)

    def add(self, point: Point, device: str) -> None:
        """Print a point and write it."""
        if device and device not in self.devices:
            self.devices.append(device)
        self.points.append(point)
        print(f"{series_label(point.series)}, {point.points} points: {describe(point)}", flush=True)
        self.write()

    def write(self) -> None:
        """Write all points."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows([self.device, *("" if x is None else x for x in point)] for point in self.points)

    def holds(self, framework: str, mixer: str, size: int, points: int) -> bool:
        """Return whether this was measured, or tried in vain."""
        wanted = (framework, mixer, size), points
        return any((point.series, point.points) == wanted for point in self.points)

    @classmethod
    def resume(cls, path: Path, dtype: str) -> "Table":
        """Return the table of an earlier run without what it did not reach; an empty one if there was none."""
        table = cls.read(path) if path.is_file() else cls(path)
        table.points = [point for point in table.points if point.error != NOT_REACHED]
        other = next((point.dtype for point in table.points if point.dtype != dtype), dtype)
        if other != dtype:
            raise ValueError(f"{path} holds numbers of dtype {other}, not {dtype}; give another folder --out.")
        return table

    @classmethod
    def read(cls, path: Path) -> "Table":
        """Return the table of a file that `write` has written.

        Raises ValueError if there is none, or if it holds something else.
        """
        if not path.is_file():
            raise ValueError(f"out has no file {path}; run python -m benchmarks.scaling without --plot-only first.")
        table = cls(path)
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise ValueError(f"{path} has the columns {reader.fieldnames}; give a file that this program wrote.")
            try:
                for row in reader:
                    table.devices = row.pop("device").split("; ")
                    numbers = {key: float(row[key]) if row[key] else None for key in ("seconds", "mebibytes")}
                    sizes = {key: int(row[key]) for key in ("size", "points")}
                    table.points.append(Point(**{**row, **sizes, **numbers}))
            except (ValueError, TypeError, AttributeError) as error:
                raise ValueError(f"line {reader.line_num} of {path} is damaged ({error}); remove it") from error
        return table


def describe(point: Point) -> str:
    """Return time and memory of a point, or why there are none."""
    if point.seconds is None:
        return point.error
    memory = "" if point.mebibytes is None else f", {point.mebibytes / 2**10:.2f} GiB"
    return f"{1e3 * point.seconds:.3f} ms{memory}"


def measure(table: Table, options: argparse.Namespace) -> None:
    """Measure all curves; PyTorch first, so that the memory which XLA keeps is not in its way."""
    deadline = time.monotonic() + options.seconds
    for framework in (name for name in FRAMEWORKS if name in options.frameworks):
        with Worker(FRAMEWORKS[framework], ENVIRONMENT if framework == "jax" else None) as worker:
            for mixer, size in curves(framework, options):
                request = {
                    "mixer": mixer,
                    "size": size,
                    "dtype": options.dtype,
                    "budget": QUICK_BUDGET_SECONDS if options.quick else BUDGET_SECONDS,
                    "longest": LONGEST_CALL_SECONDS,
                }
                missing = [str(points) for points in options.points if not table.holds(framework, mixer, size, points)]
                for answer in worker.answers(request, missing, deadline):
                    numbers = (answer.get("seconds"), answer.get("mebibytes"), answer.get("error", ""))
                    point = Point(framework, mixer, size, int(answer["name"]), options.dtype, *numbers)
                    table.add(point, answer.get("device", ""))


def curves(framework: str, options: argparse.Namespace) -> list[tuple[str, int]]:
    """Return the wanted mixers with their sizes; softmax attention has none, 0."""
    offered = TORCH_MIXERS if framework == "torch" else MIXERS
    chosen = [mixer for mixer in offered if mixer in options.mixers]
    return [(mixer, size) for mixer in chosen for size in ((0,) if mixer == "softmax" else options.sizes)]


def ratios(points: list[Point]) -> list[tuple[str, ...]]:
    """Return, for each framework and size of FLARE, softmax attention over FLARE at the most points both reach."""
    times = {(point.series, point.points): point.seconds for point in points if point.seconds is not None}
    lines = []
    for series in dict.fromkeys(point.series for point in points if point.mixer == "flare"):
        softmax = (series[0], "softmax", 0)
        shared = [count for curve, count in times if curve == softmax and (series, count) in times]
        if shared:
            most = max(shared)
            slow, fast = times[softmax, most], times[series, most]
            cells = (f"{1e3 * slow:.1f}", f"{1e3 * fast:.2f}", f"{slow / fast:.1f}x")
            lines.append((series_label(series), str(most), *cells))
    return lines


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line; exit with one sentence where it cannot be served."""
    parser = Parser(prog="python -m benchmarks.scaling", description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=names_in, help="numbers of points, with commas; default 2^10 to 2^20")
    parser.add_argument("--mixers", type=names_in, default=MIXERS, help=f"default {','.join(MIXERS)}")
    parser.add_argument("--frameworks", type=names_in, default=tuple(FRAMEWORKS), help="default torch,jax")
    parser.add_argument("--sizes", type=names_in, help="latents and slices, default 128,512,2048")
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16")
    parser.add_argument("--seconds", type=seconds, default=285.0, help="time limit of the whole run")
    parser.add_argument(
        "--out", help="folder of scaling.csv and scaling.png, default docs/figures; out/scaling if --quick"
    )
    parser.add_argument("--plot-only", action="store_true", help="draw scaling.png from scaling.csv")
    parser.add_argument("--resume", action="store_true", help="measure only what scaling.csv lacks")
    parser.add_argument("--quick", action="store_true", help="few points and latents: a trial, on any device")
    options = parser.parse_args(arguments)
    # A trial leaves the figures of the project alone.
    options.out = options.out or ("out/scaling" if options.quick else "docs/figures")
    for option, known in (("mixers", MIXERS), ("frameworks", tuple(FRAMEWORKS))):
        unknown = [name for name in getattr(options, option) if name not in known]
        if unknown:
            parser.error(f"{option} has {unknown[0]!r}; give one or more of {', '.join(known)}.")
    defaults = {"points": (POINTS, QUICK_POINTS), "sizes": (SIZES, QUICK_SIZES)}
    for option, default in defaults.items():
        given = getattr(options, option)
        wrong = [text for text in given or () if not text.isdecimal() or not 1 <= int(text) <= 2**31]
        if wrong:
            parser.error(f"{option} has {wrong[0]!r}; give positive integers with commas between them.")
        numbers = sorted(map(int, given)) if given else default[options.quick]
        setattr(options, option, tuple(numbers))
    return options


def main(arguments: list[str]) -> int:
    """Measure unless only the figure is wanted, draw it, print the ratios."""
    options = parse(arguments)
    if not options.quick and not options.plot_only:
        check_gpu("--quick", platform_apart())
    folder = Path(options.out)
    path = folder / "scaling.csv"
    try:
        if options.plot_only:
            table = Table.read(path)
        else:
            table = Table.resume(path, options.dtype) if options.resume else Table(path)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not options.plot_only:
        measure(table, options)
    scaling_figure(table.points, table.device).savefig(folder / "scaling.png", dpi=150)
    print(f"\n{table.device}: {folder / 'scaling.png'}")
    print_table(("against softmax attention", "points", "softmax ms", "ms", "ratio"), ratios(table.points))
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(main))

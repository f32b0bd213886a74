"""Command line of additive manufacturing: `python -m data_pipeline.additive extract --source=a.zip --out=data/am`.

From archives to a data set: extract, statistics, filter, merge, index; features on the way; or generate all of it.
"""

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path

from data_pipeline.additive import extraction, preparation
from data_pipeline.additive.archive import ROOT
from data_pipeline.additive.case_index import MOST_FRAMES
from data_pipeline.additive.merge import INTERPOLATIONS
from data_pipeline.additive.statistics import LIMITS
from data_pipeline.generate import generate
from data_pipeline.seeds import LARGEST_SEED
from runtime import signals
from runtime.command import Parser, integer, sentence

_FORMATS = {"files": "lpbf", "archives": "lpbf_archives"}


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status: 0, 1 where some cases failed, 2 for refusals."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except (ValueError, OSError) as error:
        signals.settle()
        print(f"error: {sentence(error)}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        signals.settle()
        print(f"error: {error}", file=sys.stderr)
        return 1


def _extract(options: argparse.Namespace) -> int:
    found = extraction.extract(
        options.source, options.out, series=options.series, root=options.root, most_frames=options.most_frames
    )
    print(
        f"{found.extracted} cases extracted to {options.out}, {found.kept} were there, {len(found.failures)} failed"
        + (f" (reasons in {options.out / extraction.FAILURES})" if found.failures else "")
    )
    return 1 if found.failures else 0


def _merge(options: argparse.Namespace) -> int:
    done, failed = preparation.merge_series(options.data, options.interpolation)
    print(f"{done} series in {options.data / extraction.SERIES}, {failed} failed")
    return 1 if failed else 0


def _features(options: argparse.Namespace) -> int:
    done, failed = preparation.write_features(options.data)
    print(f"features of {done} parts in {options.data / extraction.FEATURES}, {failed} failed")
    return 1 if failed else 0


def _statistics(options: argparse.Namespace) -> int:
    done, failed = preparation.write_statistics(options.data)
    print((options.data / "dataset_statistics.txt").read_text(encoding="utf-8"), end="")
    print(f"statistics of {done} parts in {options.data}/dataset_statistics.csv, .txt, .png, .pdf; {failed} failed")
    return 1 if failed else 0


def _filter(options: argparse.Namespace) -> int:
    limits = {name: getattr(options, name) for name in LIMITS}
    kept, total = preparation.write_selection(options.statistics, options.out, limits)
    print(f"{kept} of {total} parts kept, listed in {options.out}")
    return 0


def _index(options: argparse.Namespace) -> int:
    sizes = preparation.write_dataset(options.data, options.out, options.include, options.seed)
    print(f"{sizes['train']} parts in {options.out / 'train'}, {sizes['test']} in {options.out / 'test'}")
    return 0


def _generate(options: argparse.Namespace) -> int:
    name = _FORMATS[options.format]
    folder = generate(
        name,
        options.out,
        num=options.num,
        seed=options.seed,
        workers=options.workers,
        overwrite=options.overwrite,
        resolution=options.resolution,
    )
    print(f"generated {name} data written to {folder}")
    return 0


def _limit(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise argparse.ArgumentTypeError(f"{text} must be a number; inf for no limit")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m data_pipeline.additive", description=__doc__.splitlines()[2])
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        return command

    one = add("extract", _extract, "Read result archives into one npz file per case; run again, it goes on.")
    one.add_argument("--source", type=Path, required=True, help="zip archive, folder of archives, or unpacked results")
    one.add_argument("--out", type=Path, required=True, help="folder of the extracted cases")
    one.add_argument("--series", action="store_true", help="also the states after every group of layers")
    one.add_argument("--root", default=ROOT, help="folder of the cases in an archive (default: %(default)s)")
    one.add_argument(
        "--most_frames", type=integer(4), default=MOST_FRAMES, help="refuse cases with more (default: %(default)s)"
    )
    one = add("merge", _merge, "Put the states of every extracted series on one mesh, the union of its meshes.")
    _data(one)
    one.add_argument(
        "--interpolation", choices=INTERPOLATIONS, default=INTERPOLATIONS[0], help="(default: %(default)s)"
    )
    _data(add("features", _features, "Compute distances and directions to the surface of every part."))
    _data(add("statistics", _statistics, "Write a table of sizes and extremes of all parts, with figures."))
    one = add("filter", _filter, "List the parts none of whose statistics exceeds its limit (defaults: the published).")
    one.add_argument("--statistics", type=Path, required=True, help="CSV file that `statistics` wrote")
    one.add_argument("--out", type=Path, default=Path("include_list.txt"), help="list (default: %(default)s)")
    for name, limit in LIMITS.items():
        one.add_argument(f"--{name}", type=_limit, default=limit, help="largest value (default: %(default)g)")
    one = add("index", _index, "Write extracted parts in the layout of the public set, split into train and test.")
    _data(one)
    one.add_argument("--out", type=Path, required=True, help="new folder, LPBF_FLARE below a data root")
    one.add_argument("--include", type=Path, help="list of the parts to take (default: all)")
    one.add_argument("--seed", type=integer(0, LARGEST_SEED), default=0, help="of the split (default: %(default)s)")
    one = add("generate", _generate, "Simulate random parts: layers with an inherent strain, heat, cooling, release.")
    one.add_argument("--out", type=Path, default=Path("data"), help="data root (default: %(default)s)")
    one.add_argument("--format", choices=tuple(_FORMATS), default="files", help="data set or archives of simulations")
    one.add_argument("--num", type=integer(1), help="number of parts (default: as many as the public set has)")
    one.add_argument("--seed", type=integer(0, LARGEST_SEED), default=0, help="of the parts (default: %(default)s)")
    one.add_argument("--resolution", type=integer(1), help="element layers in 60 mm: 100 (default), 50 or 25")
    one.add_argument("--workers", type=integer(1), help="number of processes (default: one per CPU)")
    one.add_argument("--overwrite", action="store_true", help="replace data that were generated earlier")
    return parser


def _data(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", type=Path, required=True, help="folder of the extracted cases")


if __name__ == "__main__":
    signals.install("stopped; run the same command again to go on from what is finished")
    sys.exit(main())

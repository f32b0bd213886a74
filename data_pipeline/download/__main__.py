"""Fetch public data sets, check and record them; the same command goes on after an interruption.

python -m data_pipeline.download elasticity darcy          into the folder data
python -m data_pipeline.download drivaerml_raw --runs=1-10 --data_dir=/scratch/data
python -m data_pipeline.download --list                    names, sources, what is there
"""

import re
import sys
from argparse import ArgumentTypeError, RawDescriptionHelpFormatter
from pathlib import Path

from runtime import signals


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status: 0, or 2 where a set could not be fetched."""
    from data_pipeline.download.fetch import download, is_there
    from data_pipeline.download.sources import BY_HAND, BY_NAME, PUBLIC_SETS, find_public
    from runtime.command import Parser, sentence

    parser = Parser(prog="python -m data_pipeline.download", description=__doc__)
    parser.formatter_class = RawDescriptionHelpFormatter
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"data set or task: {', '.join(BY_NAME)}")
    parser.add_argument("--data_dir", type=Path, default=Path("data"), help="data root (default: %(default)s)")
    parser.add_argument("--mirror", default="", help="address or folder that has the files instead, by their names")
    parser.add_argument("--runs", type=_runs, default=(), metavar="1-10,17", help="of drivaerml_raw these runs alone")
    parser.add_argument("--list", action="store_true", help="print names, sources and what is there already")
    options = parser.parse_args(arguments)
    if options.list:
        for public in PUBLIC_SETS:
            there = [name for name in public.serves if is_there(name, options.data_dir)]
            runs = sum((options.data_dir / public.folder / file.place).exists() for file in public.files if public.runs)
            there += [f"{runs} runs"] if runs and not there else []
            note = f" (there: {', '.join(there)})" if there else ""
            print(f"{', '.join(public.serves)} -> {options.data_dir / public.folder}{note}")
            print("".join(f"    {origin}\n" for origin in public.origins), end="")
        print("".join(f"{name}: {text}\n" for name, text in BY_HAND.items()), end="")
        return 0
    if not options.names:
        parser.error("name one or more data sets")
    try:
        for name in options.names:
            find_public(name).of_runs(options.runs)  # all names are checked before anything is fetched
        for name in options.names:
            download(name, options.data_dir, options.mirror, lambda text: print(text, flush=True), options.runs)
    except signals.Interrupted as stop:
        print(stop, file=sys.stderr)
        return stop.status
    except (ValueError, OSError) as error:
        print(f"error: {sentence(error)}", file=sys.stderr)
        return 2
    return 0


def _runs(text: str) -> tuple[int, ...]:
    """Return the numbers of runs in a text such as `1-10,17`."""
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part.strip())
        ends = [int(text) for text in match.groups() if text] if match else [0]
        if not 0 < ends[0] <= ends[-1]:
            raise ArgumentTypeError(f"{part!r} is no number or range of runs; write them as 1-10,17")
        numbers += range(ends[0], ends[-1] + 1)
    return tuple(numbers)


if __name__ == "__main__":
    signals.install("interrupted; run the same command again to go on")
    sys.exit(main())

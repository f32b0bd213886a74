"""Command line of the generators: `python -m data_pipeline.generate elasticity --num=2000 --out=data`."""

import argparse
import sys
from pathlib import Path

from data_pipeline.generate import GENERATORS, generate
from runtime import signals
from runtime.command import Parser, sentence


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status: 0, 2 for refusals, 1 for failures."""
    options = _parser().parse_args(arguments)
    try:
        folder = generate(**vars(options))
    except ValueError as error:
        signals.settle()
        print(f"error: {sentence(error)}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        signals.settle()
        print(f"error: {sentence(error)}", file=sys.stderr)
        return 1
    print(f"generated {options.name} data written to {folder}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m data_pipeline.generate",
        description="Generate a data set with the physics and the file layout of the public one.",
    )
    parser.add_argument("name", metavar="NAME", help=f"data set: {', '.join(sorted(GENERATORS))}")
    parser.add_argument("--out", type=Path, default=Path("data"), help="data root (default: %(default)s)")
    parser.add_argument("--num", type=int, help="number of samples (default: as many as the public data set has)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random inputs (default: %(default)s)")
    parser.add_argument("--resolution", type=int, help="grid points per side of the stored fields")
    parser.add_argument("--refinement", type=int, help="how many times finer the solver's grid is than the stored one")
    parser.add_argument("--precision", help="float32 or float64 arithmetic")
    parser.add_argument("--workers", type=int, help="number of processes (default: one per CPU)")
    parser.add_argument("--overwrite", action="store_true", help="replace files that were generated earlier")
    return parser


if __name__ == "__main__":
    signals.install("stopped; run the same command again to go on from the finished samples")
    sys.exit(main())

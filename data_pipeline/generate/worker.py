"""A process that solves chunks of samples: `python -m data_pipeline.generate.worker MODULE SEED FOLDER SETTINGS`.

It reads a line `START STOP` for every chunk from standard input, keeps the chunk in FOLDER and answers `done` or
`failed REASON`. SETTINGS is a JSON object with the fields of the generator's `Settings`. The process ends when its
input ends, hence also when the process that started it is killed.
"""

import json
import sys
from pathlib import Path

import numpy as np

from data_pipeline.generate.files import chunk_path
from data_pipeline.generate.generator import Settings, load_generator
from runtime.files import replacing


def main(module: str, seed: int, folder: Path, settings: Settings) -> None:
    """Answer the requests on standard input (see the module's description)."""
    # Solvers may print; their output must not mix with the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    generator = load_generator(module, settings)
    for line in sys.stdin:
        indices = range(*map(int, line.split()))
        try:
            arrays = generator.solve(seed, indices)
        except MemoryError:
            sys.exit(1)  # the program that asked says what may help
        try:
            with replacing(chunk_path(folder, indices)) as temporary:
                np.savez(temporary, **arrays)
        except OSError as error:
            print(f"failed {error}", file=answers, flush=True)
        else:
            print("done", file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), Settings(**json.loads(sys.argv[4])))

"""Reads every file of simulation data below folders as a sample: `python -m tests.data_pipeline.foreign_files DIR ...`.

For the test data of other packages, which are not copied here: unpack their source archives or wheels, or name where
they are installed. Prints a line for every file that is refused, and a table of how many were read per suffix.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from data_pipeline.custom.proposal import describe_contents, samples_at
from data_pipeline.custom.readers import SUFFIXES, read_contents
from data_pipeline.custom.series import SERIES_SUFFIXES
from data_pipeline.errors import DataError


def known_files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder whose suffixes are read."""
    suffixes = {*SUFFIXES, *SERIES_SUFFIXES}
    yield from (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in suffixes and path.is_file())


def problem(path: Path) -> str:
    """Return why a file is refused, nothing where its first sample is read and described."""
    try:
        references = next(iter(samples_at(path).values()))
        describe_contents(read_contents(references[0]))
    except DataError as error:
        return str(error)
    return ""


def main(folders: list[str]) -> int:
    """Print the table, and return how many files were refused."""
    read, refused = Counter(), 0
    for path in (path for folder in folders for path in known_files(Path(folder))):
        reason = problem(path)
        refused += bool(reason)
        read[path.suffix.lower()] += not reason
        if reason:
            print(reason)
    print(
        f"{sum(read.values())} read, {refused} refused:", ", ".join(f"{count} {name}" for name, count in read.items())
    )
    return refused


if __name__ == "__main__":
    sys.exit(min(1, main(sys.argv[1:])))

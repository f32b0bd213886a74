"""Steps in time within one file of Gmsh: data of one name at several times, of which meshio keeps the last."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from data_pipeline.errors import DataError

_BEGIN = re.compile(rb"^\$(NodeData|ElementData|ElementNodeData)\s*$", re.MULTILINE)


class _Block(NamedTuple):
    """Where a block of data stands in the file, whose it is and when."""

    begin: int
    end: int
    field: tuple[str, str]  # kind, name
    time: float
    step: int


def times_of(path: Path) -> list[float]:
    """Return the times of the fields that have several, or their numbers where times repeat; raises DataError."""
    when = _steps(_blocks(path, path.read_bytes()))
    times = [time for _, time in when]
    return times if len(set(times)) == len(times) else [float(step) for step, _ in when]


def content_of_step(path: Path, number: int) -> bytes:
    """Return the file without the data of other steps than `number`, from 0; fields of one step are in all.

    Raises DataError.
    """
    content = path.read_bytes()
    blocks = _blocks(path, content)
    step, time = _steps(blocks)[number]
    several = _several(blocks)
    parts, at = [], 0
    for block in blocks:
        if block.field in several and (block.step, block.time) != (step, time):
            parts.append(content[at : block.begin])
            at = block.end
    return b"".join([*parts, content[at:]])


def _steps(blocks: Sequence[_Block]) -> list[tuple[int, float]]:
    """Return number and time of the steps of fields that have several, in order; nothing where none has."""
    several = _several(blocks)
    return sorted({(block.step, block.time) for block in blocks if block.field in several})


def _several(blocks: Sequence[_Block]) -> set[tuple[str, str]]:
    whens: dict[tuple[str, str], set[tuple[int, float]]] = {}
    for block in blocks:
        whens.setdefault(block.field, set()).add((block.step, block.time))
    return {field for field, found in whens.items() if len(found) > 1}


def _blocks(path: Path, content: bytes) -> list[_Block]:
    return list(_read_blocks(path, content))


def _read_blocks(path: Path, content: bytes) -> Iterator[_Block]:
    """Yield the blocks: tags of text, first the name, of real numbers, first the time, of integers, first the step."""
    for match in _BEGIN.finditer(content):
        kind = match[1].decode()
        ending = f"$End{kind}".encode()
        end = content.find(ending, match.end())
        try:
            if end < 0:
                raise ValueError("it has no end")
            # These lines are text in binary files too, and few; data begin behind them.
            lines = content[match.end() : match.end() + 4096].lstrip().split(b"\n")
            texts = int(lines[0])
            reals = int(lines[1 + texts])
            at = 2 + texts + reals
            integers = int(lines[at])
            name = lines[1].decode().strip().strip('"') if texts else ""
            time = float(lines[2 + texts]) if reals else 0.0
            step = int(lines[at + 1]) if integers else 0
        except (ValueError, IndexError, UnicodeDecodeError) as error:
            raise DataError(f"{path} has a damaged block of {kind} ({error}); get the file again") from error
        yield _Block(match.start(), end + len(ending), (kind, name), time, step)

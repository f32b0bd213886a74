"""The index of a simulation's results, an EnSight `.case` file: how many frames and geometries there are, and when."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_pipeline.additive.ensight import FIELDS
from data_pipeline.errors import DataError

MOST_FRAMES = 100
_KINDS = {1: "scalar", 3: "vector", 6: "tensor symm"}


@dataclass(frozen=True)
class TimeSet:
    """The numbers in the names of the files of one time set, and the times in s."""

    numbers: tuple[int, ...]
    times: tuple[float, ...]


@dataclass(frozen=True)
class CaseIndex:
    """Frames of fields and geometries of one simulation; see `layers` for how they belong together."""

    fields: TimeSet
    geometries: TimeSet

    def layers(self, most_frames: int = MOST_FRAMES) -> int:
        """Return the number L of groups of layers; raises DataError unless frames are 2L + 2 and geometries L + 2.

        Frames 2k - 1 and 2k are the beginning and the end of group k on geometry k; then come the cooled state on
        geometry L + 1 and the part without its plate on geometry L + 2.
        """
        frames, geometries = len(self.fields.numbers), len(self.geometries.numbers)
        if frames > most_frames:
            raise DataError(f"{frames} frames are more than {most_frames}; raise --most_frames to take them")
        if frames < 4 or frames % 2 or 2 * (geometries - 2) != frames - 2:
            raise DataError(
                f"{frames} frames do not fit {geometries} geometries: L groups of layers have 2L + 2 frames and L + 2 "
                "geometries; the simulation is incomplete, run it again"
            )
        return geometries - 2


def read_index(text: str, where: str) -> CaseIndex:
    """Return the index in the text of a `.case` file; raises DataError, which names the file `where`."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not any(line.lower().startswith("type:") and "ensight gold" in line.lower() for line in lines):
        raise DataError(f"{where} lacks the line 'type: ensight gold'; it is no index of EnSight Gold results")
    sets = _time_sets(lines, where)
    geometry = _set_of(lines, "model:", 2)
    displacement = _set_of([line for line in lines if line.endswith(".dis.ens")], "per node:", 1)
    missing = sorted({geometry, displacement} - sets.keys())
    if missing:
        raise DataError(f"{where} lacks the time set {missing[0]}, it has {sorted(sets)}; write the results again")
    return CaseIndex(sets[displacement], sets[geometry])


def write_index(
    prefix: str, field_times: Sequence[float], geometry_times: Sequence[float], suffixes: Sequence[str]
) -> str:
    """Return the text of a `.case` file for files `<prefix>_*.geo` and `<prefix>00_*.<suffix>.ens`."""
    lines = ["FORMAT", "type: ensight gold", "GEOMETRY", f"model: 2 ./{prefix}_*.geo", "VARIABLE"]
    for suffix in suffixes:
        components, name = FIELDS[suffix]
        lines.append(f"{_KINDS[components]} per node: 1 {name} ./{prefix}00_*.{suffix}.ens")
    for number, times in enumerate((field_times, geometry_times), start=1):
        lines += ["TIME", f"time set: {number}", f"number of steps: {len(times)}"]
        lines += ["filename start number: 1", "filename increment: 1", "time values:"]
        lines += [f"{time:.16e}" for time in times]
    return "\n".join(lines) + "\n"


def _set_of(lines: Sequence[str], word: str, default: int) -> int:
    """Return the number of the time set in the first line with `word`, where it gives one."""
    for line in lines:
        if word in line:
            first = line.split(word, 1)[1].split()[:1]
            return int(first[0]) if first and first[0].isdigit() else default
    return default


def _time_sets(lines: Sequence[str], where: str) -> dict[int, TimeSet]:
    blocks: dict[int, list[str]] = {}
    current: list[str] = []
    for line in lines:
        key, _, value = (part.strip() for part in line.partition(":"))
        if key == "time set":
            current = blocks.setdefault(_number(value, where), [])
        else:
            current.append(line)
    return {number: _time_set(block, where) for number, block in blocks.items()}


def _time_set(block: Sequence[str], where: str) -> TimeSet:
    values: dict[str, list[str]] = {}
    words: list[str] = []
    for line in block:
        if line.isalpha() and line.isupper():
            break  # the next section
        key, colon, rest = (part.strip() for part in line.partition(":"))
        if colon:
            words = values.setdefault(key, [])
        words += (rest if colon else line).split()
    steps = _number((values.get("number of steps") or ["none"])[0], where)
    if "filename numbers" in values:
        numbers = [_number(word, where) for word in values["filename numbers"]]
    else:
        start, step = (
            _number((values.get(f"filename {name}") or ["1"])[0], where) for name in ("start number", "increment")
        )
        numbers = [start + step * k for k in range(steps)]
    try:
        times = [float(word) for word in values.get("time values", [])]
    except ValueError as error:
        raise DataError(f"{where} has a time that is no number ({error}); write the results again") from error
    if len(numbers) != steps or len(times) != steps or not np.isfinite(times).all():
        raise DataError(
            f"{where} announces {steps} steps, but has {len(numbers)} file numbers and {len(times)} times; "
            "write the results again"
        )
    return TimeSet(tuple(numbers), tuple(times))


def _number(word: str, where: str) -> int:
    first = word.split()[:1]
    if not first or not first[0].isdigit():
        raise DataError(f"{where} has {word!r} where a number is expected; write the results again")
    return int(first[0])

"""What a compiled program communicates, read from its text: how often, how many bytes, and what runs meanwhile."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
# Compilers start these and wait for them later; the shape of the start names operands and results, one after the other.
_PAIRED = ("all-gather-start", "collective-permute-start")
_COMPUTES = ("fusion", "custom-call", "dot", "convolution", "while", "conditional", "call", "reduce", "sort", "scatter")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\(")
_ARRAY = re.compile(r"\b(pred|bf16|[a-z]+\d+)(?:e\d\w*)?\[([\d,]*)\]")


class Collective(NamedTuple):
    """An operation of the program: bytes of its result on one device, how often it runs, operations that run meanwhile.

    `meanwhile` is None for one that is waited for at once. `independent` operations neither need its result nor does it
    need theirs: what a scheduler may run meanwhile.
    """

    kind: str
    bytes: int
    times: int
    meanwhile: int | None
    independent: int


class _Instruction(NamedTuple):
    name: str
    shape: str
    operation: str
    text: str


def collectives(text: str) -> list[Collective]:
    """Return the collective operations of a compiled program (`compiled.as_text()`), those inside loops counted.

    Raises ValueError for one inside a loop whose number of rounds the compiler does not know.
    """
    computations, entry = _computations(text)
    found: list[Collective] = []
    for name, times in _runs(computations, entry).items():
        body = computations[name]
        for place, instruction in enumerate(body):
            kind = next((kind for kind in KINDS if instruction.operation in (kind, f"{kind}-start")), None)
            if kind is None:
                continue
            if times is None:
                raise ValueError(
                    f"{instruction.name} is in a loop of unknown length; time a program without such loops"
                )
            meanwhile = _meanwhile(body, place) if instruction.operation.endswith("-start") else None
            beside = _independent(body, place)
            found.append(Collective(kind, _result_bytes(instruction), times, meanwhile, beside))
    return found


def total_bytes(operations: Sequence[Collective]) -> int:
    """Return the bytes of all runs of the operations on one device."""
    return sum(operation.bytes * operation.times for operation in operations)


def total_runs(operations: Sequence[Collective]) -> dict[str, int]:
    """Return how often operations of each kind run."""
    runs = Counter()
    for operation in operations:
        runs[operation.kind] += operation.times
    return dict(runs)


def _computations(text: str) -> tuple[dict[str, list[_Instruction]], str]:
    found: dict[str, list[_Instruction]] = {}
    entry = current = ""
    for line in re.sub(r"/\*.*?\*/", "", text).splitlines():
        if header := _COMPUTATION.match(line):
            current = header[2]
            found[current] = []
            entry = current if header[1] else entry
        elif current and (match := _INSTRUCTION.match(line)):
            found[current].append(_Instruction(*match.groups(), line))
    if not entry:
        raise ValueError("the text has no ENTRY computation; give that of a compiled program")
    return found, entry


def _runs(computations: dict[str, list[_Instruction]], entry: str) -> dict[str, int | None]:
    """Return how often each computation runs; None where a loop of unknown length runs it."""
    runs: Counter = Counter()
    unknown: set[str] = set()

    def visit(name: str, times: int, known: bool) -> None:
        runs[name] += times
        if not known:
            unknown.add(name)
        for instruction in computations[name]:
            for called, rounds in _calls(instruction):
                if called in computations:
                    visit(called, times * (rounds or 1), known and rounds is not None)

    visit(entry, 1, True)
    return {name: None if name in unknown else times for name, times in runs.items()}


def _calls(instruction: _Instruction) -> Iterator[tuple[str, int | None]]:
    """Yield the computations that an instruction runs, and how often; a branch counts as if it were taken."""
    if instruction.operation.endswith(("-done", "-update")):
        return  # they name the computation that their start has run
    rounds: int | None = 1
    if instruction.operation == "while":
        count = re.search(r'known_trip_count"?:\s*\{"?n"?:\s*"?(\d+)', instruction.text)
        rounds = int(count[1]) if count else None
    for key in ("body", "calls", "to_apply", "true_computation", "false_computation"):
        for match in re.finditer(rf"\b{key}=%?([\w.-]+)", instruction.text):
            yield match[1], rounds
    if branches := re.search(r"branch_computations=\{([^}]*)\}", instruction.text):
        for branch in branches[1].split(","):
            yield branch.strip().lstrip("%"), 1


def _result_bytes(instruction: _Instruction) -> int:
    arrays = [_bytes(*match) for match in _ARRAY.findall(instruction.shape)]
    if instruction.operation not in _PAIRED:
        return sum(arrays)
    operands = instruction.text.split(f"{instruction.operation}(", 1)[1].split(")")[0].count("%")
    return sum(arrays[operands : 2 * operands])


def _bytes(dtype: str, dimensions: str) -> int:
    bits = 8 if dtype == "pred" else int(re.search(r"\d+", dtype)[0])
    return math.prod(int(size) for size in dimensions.split(",") if size) * bits // 8


def _meanwhile(body: Sequence[_Instruction], place: int) -> int:
    """Return how many operations that compute are scheduled between the start at `place` and the wait for its end."""
    start = body[place].name
    done = next(
        (i for i in range(place + 1, len(body)) if re.search(rf"-done\(.*%?{re.escape(start)}\b", body[i].text)), place
    )
    return sum(instruction.operation in _COMPUTES for instruction in body[place + 1 : done])


def _independent(body: Sequence[_Instruction], place: int) -> int:
    """Return how many operations of a computation compute and are neither before nor behind the one at `place`."""
    names = {instruction.name for instruction in body}
    needs = {
        instruction.name: names.intersection(re.findall(r"%?([\w.-]+)", _operands(instruction))) for instruction in body
    }
    needed_by: dict[str, set[str]] = {name: set() for name in names}
    for name, sources in needs.items():
        for source in sources:
            needed_by[source].add(name)
    tied = _reached(body[place].name, needs) | _reached(body[place].name, needed_by)
    return sum(instruction.operation in _COMPUTES and instruction.name not in tied for instruction in body)


def _operands(instruction: _Instruction) -> str:
    """Return what stands between the parentheses of a call."""
    rest = instruction.text.split(f" {instruction.operation}(", 1)[1]
    depth = 1
    for end, character in enumerate(rest):
        depth += (character == "(") - (character == ")")
        if not depth:
            return rest[:end]
    return rest


def _reached(start: str, edges: Mapping[str, set[str]]) -> set[str]:
    found, waiting = {start}, [start]
    while waiting:
        new = edges[waiting.pop()] - found
        found |= new
        waiting += new
    return found

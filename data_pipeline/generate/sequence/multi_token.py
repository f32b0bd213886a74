"""Multi-token association: 1 000 000 training samples of 302 tokens; validation samples are drawn when loading.

The samples come from one stream of draws, in which a worker keeps its place from chunk to chunk.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_pipeline.generate.chunks import Samples
from data_pipeline.generate.generator import Generator
from data_pipeline.generate.sequence.composition import export
from data_pipeline.sequence.composition import FOLDER
from data_pipeline.sequence.multi_token import multi_token_association, sequence_length


class _Place:
    """A stream of samples and the number of the next one."""

    def __init__(self, seed: int) -> None:
        self.seed, self.next = seed, 0
        self.stream: Iterator[tuple[np.ndarray, int]] = multi_token_association(seed)


_PLACES: list[_Place] = []


def _place(seed: int, index: int) -> _Place:
    """Return a stream of `seed` that has not passed `index`: the last one, or a new one."""
    if not _PLACES or _PLACES[-1].seed != seed or _PLACES[-1].next > index:
        _PLACES[:] = [_Place(seed)]
    return _PLACES[-1]


def _solve(seed: int, indices: range) -> dict[str, np.ndarray]:
    place = _place(seed, indices.start)
    ids = np.empty((len(indices), sequence_length()), np.uint8)
    labels = np.empty(len(indices), np.int8)
    while place.next < indices.stop:
        tokens, label = next(place.stream)
        if place.next >= indices.start:
            ids[place.next - indices.start], labels[place.next - indices.start] = tokens, label
        place.next += 1
    return {"input_ids": ids, "labels": labels, "seed": np.full(len(indices), seed, np.int64)}


def _export(arrays: Samples, folder: Path) -> None:
    export({**arrays, "seed": arrays["seed"][:1]}, folder)


GENERATOR = Generator(
    name="mta-toy",
    folder=f"{FOLDER}/mta-toy",
    files=("data.h5",),
    num=1_000_000,
    chunk=10_000,
    solver="random blocks of letters, one of which holds the query",
    version=1,
    details={"draws": "Python's generator in the original's order; seed 42 is its own, and 43 validates"},
    solve=_solve,
    export=_export,
    max_workers=1,  # every further one would draw all samples before its own
)

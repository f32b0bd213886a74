"""Generators of the composition tasks; 50 000 samples of seed 42 are those of the original.

The samples of a task come from one stream of random draws, so all of them are one chunk. Rows have different lengths,
and one HDF5 file holds them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from data_pipeline.generate.generator import Generator
from data_pipeline.sequence.cache import write_arrays
from data_pipeline.sequence.composition import FOLDER
from data_pipeline.sequence.dataset import narrow, pack
from data_pipeline.sequence.match3 import match3
from data_pipeline.sequence.relations import Sample, binary_relation, function_composition, quotient_relation

# More samples than any set has.
_ONE_CHUNK = 2**40
Solve = Callable[[int, range], dict[str, np.ndarray]]


def _pack_samples(inputs: Sequence[np.ndarray], labels: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Return tokens and labels as arrays of one width, with their lengths."""
    return {
        "input_ids": pack(inputs, max(map(len, inputs)), 0),
        "labels": pack(labels, max(map(len, labels)), 0),
        "lengths": np.asarray([*map(len, inputs)], np.int32),
        "label_lengths": np.asarray([*map(len, labels)], np.int32),
    }


def _stream_solver(stream: Callable[[int], Iterator[Sample]]) -> Solve:
    """Return the `solve` of a generator whose samples come from `stream(seed)`."""

    def solve(seed: int, indices: range) -> dict[str, np.ndarray]:
        samples = list(islice(stream(seed), indices.start, indices.stop))
        arrays = _pack_samples([sample.input_ids for sample in samples], [sample.labels for sample in samples])
        if samples[0].colors is not None:
            arrays["colors"] = pack([sample.colors for sample in samples], max(len(s.colors) for s in samples), 0)
        return arrays

    return solve


def _solve_match3(seed: int, indices: range) -> dict[str, np.ndarray]:
    samples = match3(len(indices), seed)  # the bins depend on the number of samples
    arrays = _pack_samples([tokens for tokens, _, _ in samples], [labels for _, labels, _ in samples])
    return {**arrays, "base": np.array([base for _, _, base in samples], np.int32)}


def export(arrays: Mapping[str, np.ndarray], folder: Path) -> None:
    """Write all arrays into data.h5."""
    write_arrays(folder / "data.h5", {name: narrow(array) for name, array in arrays.items()})


def _generator(name: str, solver: str, solve: Solve) -> Generator:
    return Generator(
        name=name,
        folder=f"{FOLDER}/{name}",
        files=("data.h5",),
        num=50_000,
        chunk=_ONE_CHUNK,
        solver=solver,
        version=1,
        details={"draws": "Python's and NumPy's legacy generators in the original's order; seed 42 is its own"},
        solve=solve,
        export=export,
    )


GENERATORS = {
    generator.name: generator
    for generator in (
        _generator(
            "function_composition",
            "random functions, half of them with f(f(0)) = 0",
            _stream_solver(function_composition),
        ),
        _generator(
            "binary_relation_composition",
            "random graphs with edge probability 0.325",
            _stream_solver(binary_relation),
        ),
        _generator(
            "quotient_binary_relation_composition",
            "coloured random graphs with edge probability 0.433",
            _stream_solver(quotient_relation),
        ),
        _generator("match3", "base sequences in 4 bins by the share of marked tokens, permuted", _solve_match3),
    )
}

"""Golden files of the spectrum of FLARE's token mixing: scores → eigenvalues, eigenvectors, W and column sums."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from flare_jax.analysis import mixing_spectrum
from tests.golden_checks.core import Comparison, largest_error

TOLERANCE = 2e-5


def check(arrays: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> list[Comparison]:
    """Compare the float32 eigenvalues and, in float64, everything else; signs of eigenvectors are arbitrary."""
    scores = arrays["input/scores"]
    spectrum = mixing_spectrum(scores, precision="float64", eigenvectors=True)
    values, vectors, log_columns = spectrum
    columns = np.exp(log_columns)
    results = {
        "eigenvalues": values,
        "eigenvectors": _align_signs(vectors, arrays.get("output/eigenvectors")),
        "W": np.einsum("bhnm,bhm,bhkm,bhk->bhnk", vectors, values, vectors, columns, optimize=True),
        "csum": columns,
    }
    expected = {key.removeprefix("output/"): array for key, array in arrays.items() if key.startswith("output/")}
    comparisons = [_compare(name, results.get(name), array) for name, array in expected.items()]
    if "eigenvalues" in expected:
        fast = mixing_spectrum(scores).eigenvalues
        comparisons.append(_compare("eigenvalues in float32", fast, expected["eigenvalues"]))
    return comparisons


def _compare(name: str, actual: np.ndarray | None, expected: np.ndarray) -> Comparison:
    """Compare on the scale of the array if that is above 1, as column sums are exponentials."""
    error = float("inf") if actual is None else largest_error(actual, expected)
    return Comparison(name, "output", error, TOLERANCE * max(1.0, float(np.max(np.abs(expected), initial=0.0))))


def _align_signs(vectors: np.ndarray, expected: np.ndarray | None) -> np.ndarray:
    if expected is None or expected.shape != vectors.shape:
        return vectors
    overlap = np.sum(vectors * expected, axis=-2, keepdims=True)
    return vectors * np.where(overlap < 0, -1.0, 1.0)

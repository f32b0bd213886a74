"""What mixers and blocks say of themselves in a forward pass, compared with the diagnostics of a golden file."""

from collections.abc import Iterator, Mapping
from typing import Any

from tests.golden_checks.core import Comparison

TOLERANCE = 1e-4


def compare_statistics(actual: Any, expected: Any, name: str = "") -> list[Comparison]:
    """Compare trees of numbers by relative error; null in the file stands for NaN."""
    found = dict(_leaves(actual, name))
    return [_compare(path, found.get(path), value) for path, value in _leaves(expected, name)]


def _leaves(tree: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the numbers of nested mappings and lists with their paths."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _leaves(value, f"{name}.{key}")
    elif isinstance(tree, list | tuple):
        for key, value in enumerate(tree):
            yield from _leaves(value, f"{name}.{key}")
    else:
        yield name.removeprefix("."), tree


def _compare(path: str, actual: Any, expected: float | None) -> Comparison:
    if actual is None:
        return Comparison(path, "output", float("inf"), TOLERANCE)
    actual = float(actual)
    if expected is None:
        return Comparison(path, "output", 0.0 if actual != actual else float("inf"), TOLERANCE)
    return Comparison(path, "output", abs(actual - expected), TOLERANCE * abs(expected))

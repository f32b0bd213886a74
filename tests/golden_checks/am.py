"""Golden files of additive manufacturing: meshes, features, samples, archives and the layered solver."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from data_pipeline.additive import graph, samples, series
from tests.golden_checks.core import Comparison, largest_entry, largest_error

Arrays = Mapping[str, np.ndarray]
Config = Mapping[str, Any]


def check(arrays: Arrays, config: Config) -> list[Comparison]:
    """Compare every output of the file with ours, within the tolerances of the golden files' description."""
    what = config["what"]
    if what not in CHECKS:
        raise ValueError(f"there is no check of {what!r}; known are {', '.join(CHECKS)}")
    return CHECKS[what](arrays, config)


def absolute(name: str, actual: Any, expected: Any, tolerance: float) -> Comparison:
    """Compare an array by its largest error."""
    return Comparison(name, "output", largest_error(actual, expected), tolerance)


def relative(name: str, actual: Any, expected: Any, tolerance: float) -> Comparison:
    """Compare an array by its largest error, with a tolerance relative to its largest value."""
    return absolute(name, actual, expected, tolerance * max(largest_entry(expected), np.finfo(np.float32).tiny))


def _graph(arrays: Arrays, config: Config) -> list[Comparison]:
    points = arrays["input/verts"]
    elements = arrays["input/elems"] - config.get("args", {}).get("index_base", 1)
    edge_index = graph.edges(elements)
    results = [
        absolute("edge_index", edge_index, arrays["output/edge_index"], 0.0),
        absolute("edge_vector", graph.edge_vectors(points, edge_index), arrays["output/edge_vector"], 1e-6),
        absolute("aspect_ratio", graph.aspect_ratios(points, elements), arrays["output/aspect_ratio"], 1e-5),
    ]
    if "output/hanging" in arrays:
        results.append(absolute("hanging", graph.hanging_nodes(points, elements), arrays["output/hanging"], 0.0))
    return results


def _final_sample(arrays: Arrays, config: Config) -> list[Comparison]:
    inputs = {name.removeprefix("input/"): value for name, value in arrays.items()}
    sample = samples.final_sample(inputs, inputs["edge_index"], config["args"]["fields"])
    return [absolute(name, getattr(sample, name), arrays[f"output/{name}"], 1e-6) for name in ("x", "y", "edge_attr")]


def _series_samples(arrays: Arrays, config: Config) -> list[Comparison]:
    inputs = {name.removeprefix("input/"): value for name, value in arrays.items()}
    arguments = config["args"]
    found = series.series_samples(inputs, arguments["fields"], fill=arguments["fill_new_layer"])
    # The original returns one more, which has no target and which its loss leaves out.
    valid = arrays["output/valid"].astype(bool)
    results = [absolute("T", found[0].T, arrays["output/T"], 1e-6)]
    for name, tolerance in (("x", 2e-6), ("y", 2e-6), ("mask", 0.0), ("t", 1e-6)):
        ours = np.stack([getattr(sample, name) for sample in found])
        results.append(absolute(name, ours, arrays[f"output/{name}"][valid], tolerance))
    return results


CHECKS: dict[str, Callable[[Arrays, Config], list[Comparison]]] = {
    "graph": _graph,
    "final_sample": _final_sample,
    "series_samples": _series_samples,
}

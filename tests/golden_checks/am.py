"""Golden files of additive manufacturing: meshes, features, samples, archives and the layered solver."""

import io
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from data_pipeline.additive import archive, distance, ensight, graph, interpolate, samples, series, statistics
from data_pipeline.additive.generate import layered
from data_pipeline.additive.generate.bricks import elasticity_matrix
from data_pipeline.additive.lattice import CORNERS
from data_pipeline.additive.merge import Step, merge
from data_pipeline.errors import DataError
from tests.golden_checks import am_models
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


def _merge(arrays: Arrays, config: Config) -> list[Comparison]:
    arguments = config["args"]
    base = arguments.get("index_base", 1)
    steps = []
    for k in range(arguments["steps"]):
        given = {name: arrays[f"input/{name}_{k}"] for name in ("verts", "elems", "disp", "vmstr", "temp")}
        steps.append(Step(given.pop("verts"), given.pop("elems") - base, **given, time=0.0))
    expected = arrays["output/verts"]
    results = []
    for interpolation, prefix in (("trilinear", ""), ("idw", "idw_")):
        merged = merge("golden", steps, interpolation)
        if len(merged.pos) != len(expected):
            return [Comparison("verts", "output", float("inf"), 2e-4)]
        distance_, order = cKDTree(merged.pos).query(expected)
        if not prefix:
            cells = {tuple(sorted(np.argsort(order)[cell])) for cell in merged.elems}
            same = cells == {tuple(sorted(cell)) for cell in arrays["output/elems"].tolist()}
            active = series.active_nodes(merged.pos[order, 2], merged.zmax)
            results += [
                Comparison("verts", "output", float(distance_.max()), 2e-4),
                Comparison("elems", "output", 0.0 if same else float("inf"), 0.0),
                absolute("zmax", merged.zmax, arrays["output/zmax"], 2e-4),
                absolute("active", active, arrays["output/active"], 0.0),
            ]
        comparable = arrays["output/coincident"] if prefix else np.ones(arrays["output/active"].shape, bool)
        for name in ("disp", "vmstr", "temp"):
            wanted, ours = arrays[f"output/{prefix}{name}"], getattr(merged, name)[:, order]
            limit = 1e-5 * largest_entry(wanted)
            results.append(absolute(f"{prefix}{name}", ours[comparable], wanted[comparable], limit))
    return results


def _idw(arrays: Arrays, config: Config) -> list[Comparison]:
    k, power, tolerance = (config["args"][name] for name in ("k", "power", "tol"))
    points, fields, targets = (arrays[f"input/{name}"] for name in ("x_src", "u_src", "x_dst"))
    found = interpolate.inverse_distance(points, fields, targets, k, power, tolerance)
    return [relative("u_dst", found, arrays["output/u_dst"], 1e-5)]


def _sdf(arrays: Arrays, config: Config) -> list[Comparison]:
    base = config.get("args", {}).get("index_base", 1)
    features = distance.distance_features(arrays["input/verts"], arrays["input/elems"] - base)
    normalized = distance.normalized_features(features)
    unique = arrays["output/unique"].astype(bool)
    results = []
    for name, ours, vector in (("features", features, slice(1, 4)), ("normalized", normalized, slice(0, 3))):
        expected = arrays[f"output/{name}"]
        # Where several surface points are equally near, any of the vectors will do.
        compared = np.ones(expected.shape, bool)
        compared[~unique, vector] = False
        results.append(absolute(name, ours[compared], expected[compared], 1e-5 if name == "features" else 1e-6))
    return results


def _ensight_files(arrays: Arrays, config: Config) -> list[Comparison]:
    geometry, displacement, stress = (arrays[f"input/{name}"].tobytes() for name in ("geo", "dis", "sig"))
    points, elements = ensight.read_geometry(geometry, "geo")
    tensors = ensight.read_variable(stress, 6, len(points), "sig")
    exact = {
        "verts": points,
        "elems": elements,
        "disp": ensight.read_variable(displacement, 3, len(points), "dis"),
        "cauchy_stress": tensors,
    }
    derived = {"von_mises": ensight.von_mises(tensors), "principal": ensight.principal(tensors)[0]}
    return [
        *(absolute(name, value, arrays[f"output/{name}"], 0.0) for name, value in exact.items()),
        *(relative(name, value, arrays[f"output/{name}"], 1e-5) for name, value in derived.items()),
    ]


class _InMemory:
    """The files of an archive that is an array of bytes."""

    def __init__(self, content: np.ndarray) -> None:
        self._archive = zipfile.ZipFile(io.BytesIO(content.tobytes()))
        self.names = frozenset(self._archive.namelist())

    def read(self, name: str) -> bytes:
        return self._archive.read(name)


# What the file calls the reasons of failures, and a piece of ours.
_REASONS = {
    "terminated": "was terminated",
    "no case file": "has no case file",
    "frame counts do not fit": "frames do not fit",
}


def _archive(arrays: Arrays, config: Config) -> list[Comparison]:
    root = config.get("args", {}).get("root", archive.ROOT)
    files = _InMemory(arrays["input/archive"])
    failures, found = {}, {}
    for case in archive.cases(files, root):
        try:
            simulation = archive.Simulation(files, case, root)
            final = simulation.final().arrays()
            found |= {f"final/{case}/{name}": value for name, value in final.items()}
            for k, step in enumerate(simulation.steps()):
                found |= {f"series/{case}/{k}/{name}": value for name, value in vars(step).items()}
        except DataError as error:
            failures[case] = str(error)
    renamed = {"verts": "pos", "elems": "elems", "von_mises_stress": "vmstr"}
    results = [Comparison("failures", "output", float("inf") if _differ(failures, config) else 0.0, 0.0)]
    for name, expected in arrays.items():
        if name.startswith("output/"):
            place, field = name.removeprefix("output/").rsplit("/", 1)
            ours = found.get(f"{place}/{renamed.get(field, field)}", np.zeros(0))
            results.append(absolute(name, ours, expected, 0.0))
    return results


def _differ(failures: Mapping[str, str], config: Config) -> bool:
    expected = config["failures"]
    same = failures.keys() == expected.keys()
    return not same or any(_REASONS.get(why, "") not in failures[case] for case, why in expected.items())


def _filter(arrays: Arrays, config: Config) -> list[Comparison]:
    table = {name.removeprefix("input/"): value for name, value in arrays.items() if name.startswith("input/")}
    return [absolute("keep", statistics.keep(table, config["args"]), arrays["output/keep"], 0.0)]


def _layered_inherent_strain(arrays: Arrays, config: Config) -> list[Comparison]:
    arguments, group = config["args"], arrays["input/group"].astype(np.int64)
    ticks, number = np.unique((arrays["input/cells"][:, None] + CORNERS).reshape(-1, 3), axis=0, return_inverse=True)
    nodes = np.stack([arrays[f"input/{axis}s"][ticks[:, d]] for d, axis in enumerate("xyz")], axis=-1)
    body = layered.Body(nodes, number.reshape(-1, 8), group)
    material = elasticity_matrix(arguments["young"], arguments["poisson"])
    mechanics = layered.Mechanics(body, material, arguments["element"] == "incompatible", tolerance=1e-11)
    states = [mechanics.u.copy() for _ in mechanics.build(np.tile(arguments["eigenstrain"], (body.groups, 1)))]
    released, part = mechanics.released(), arrays["output/part_nodes"]
    pairs = {
        "nodes": nodes,
        "disp": np.stack(states),
        "stress": mechanics.stress,
        "released_stress": released.stress,
        "part_elements": np.flatnonzero(group >= 0),
    }
    return [
        *(relative(name, ours, arrays[f"output/{name}"], 1e-6) for name, ours in pairs.items()),
        relative("released", released.u, arrays["output/released"][part], 1e-6),
    ]


CHECKS: dict[str, Callable[[Arrays, Config], list[Comparison]]] = {
    **am_models.CHECKS,
    "graph": _graph,
    "merge": _merge,
    "idw": _idw,
    "sdf": _sdf,
    "ensight_files": _ensight_files,
    "filter": _filter,
    "archive": _archive,
    "layered_inherent_strain": _layered_inherent_strain,
    "final_sample": _final_sample,
    "series_samples": _series_samples,
}

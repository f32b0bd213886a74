"""Sets of points that Exodus and CGNS files name, as fields of 0 and 1 under their names.

They are side sets and node sets of Exodus, and boundary conditions of CGNS. VTK reads no element sets of Exodus.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipeline import cgns

if TYPE_CHECKING:
    from pyvista import DataSet

# What VTK calls the numbers of points in the whole file, where it is asked for them.
_POINTS = "ImplicitNodeId"
_SETS = {"Side Sets": "side_set", "Node Sets": "node_set"}
_UNNAMED = "Unnamed set ID: "


def ask_for_sets(reader: Any) -> None:
    """Let a reader of Exodus read all sets, and say which points they and the blocks hold."""
    for sets in (reader.side_sets, reader.node_sets):
        sets.enable_all()
    reader.reader.SetGenerateImplicitNodeIdArray(True)


def with_sets(path: Path, content: Any) -> Any:
    """Return what VTK read of a file, of Exodus only the blocks of elements, with a field per set in every block.

    A field of the file keeps its name where a set has the same; raises DataError for a damaged file.
    """
    if hasattr(content, "keys") and "Element Blocks" in content.keys():  # noqa: SIM118  (a list, not a dict)
        return _exodus(content)
    if path.suffix.lower() == ".cgns":
        zones = cgns.boundary_sets(path)
        names = {name: None for sets in zones.values() for name in sets}
        for block in _blocks(content):
            zone = np.asarray(block.field_data["Base/Zone"]) if "Base/Zone" in block.field_data else [""]
            sets = zones.get(str(zone[0]), {})
            _mark(block.point_data, np.arange(block.n_points), {name: sets.get(name, ()) for name in names})
    return content


def _exodus(content: Any) -> Any:
    found: dict[str, np.ndarray] = {}
    for group, prefix in _SETS.items():
        sets = content[group] if group in content.keys() else {}  # noqa: SIM118
        for name in sets.keys():  # noqa: SIM118
            if sets[name] is not None and sets[name].n_points:
                label = f"{prefix}_{name.removeprefix(_UNNAMED)}" if name.startswith(_UNNAMED) else name
                found[label] = np.union1d(found.get(label, []), sets[name].point_data[_POINTS])
    blocks = content["Element Blocks"]
    for block in _blocks(blocks):
        if _POINTS in block.point_data:
            _mark(block.point_data, np.asarray(block.point_data[_POINTS]), found)
            del block.point_data[_POINTS]
    return blocks


def _mark(fields: Any, numbers: np.ndarray, sets: Mapping[str, Sequence[int] | np.ndarray]) -> None:
    for name, members in sets.items():
        if name not in fields:
            fields[name] = np.isin(numbers, members).astype(float)


def _blocks(content: Any) -> "Iterator[DataSet]":
    if hasattr(content, "recursive_iterator"):
        yield from content.recursive_iterator(skip_none=True)
    elif content is not None:
        yield content

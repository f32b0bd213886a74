"""EnSight Gold files as the simulation writes them: binary, little-endian, one part of hexahedra.

The header says "Fortran Binary", but there are no record markers, so that readers of the format's Fortran kind fail.
Tensors are stored as xx, yy, zz, xy, yz, xz, not in the order that the format prescribes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from data_pipeline.errors import DataError

# Suffix, number of components and name of every field per node.
FIELDS = {
    "dis": (3, "disp"),
    "svm": (1, "vmstr"),
    "tmp": (1, "temp"),
    "sig": (6, "cauchy_stress"),
    "ept": (6, "strain"),
    "sp1": (1, "max_stress"),
    "sp2": (1, "mid_stress"),
    "sp3": (1, "min_stress"),
    "sd1": (3, "max_dir"),
    "sd2": (3, "mid_dir"),
    "sd3": (3, "min_dir"),
    "rct": (1, "recoater_clearance_percent"),
    "rcd": (1, "recoater_status"),
}
OPTIONAL = ("rct", "rcd")  # missing at some frames of some runs
TENSOR = ("xx", "yy", "zz", "xy", "yz", "xz")  # columns of cauchy_stress and strain

_LINE = 80
_HEADERS = ("Fortran Binary", "C Binary")


@dataclass
class _Content:
    """The bytes of a file, read from the front; `where` names it in errors."""

    data: bytes
    where: str
    at: int = 0

    def take(self, count: int, what: str) -> bytes:
        if count < 0 or self.at + count > len(self.data):
            raise DataError(
                f"{self.where} ends after {len(self.data)} bytes, in the middle of {what}; it is damaged, get it again"
            )
        self.at += count
        return self.data[self.at - count : self.at]

    def line(self, what: str) -> str:
        return self.take(_LINE, what).split(b"\0")[0].decode("latin-1").strip()

    def expect(self, word: str, what: str) -> None:
        found = self.line(what)
        if found != word:
            raise DataError(f"{self.where} has {found[:40]!r} where {word!r} is expected; give a file with {what}")

    def integer(self, what: str) -> int:
        return int(np.frombuffer(self.take(4, what), "<i4")[0])

    def array(self, dtype: str, count: int, what: str) -> np.ndarray:
        return np.frombuffer(self.take(4 * count, what), dtype)

    def end(self) -> None:
        if self.at == len(self.data):
            return
        next_line = self.data[self.at : self.at + _LINE].split(b"\0")[0].decode("latin-1").strip()
        reason = "a second part" if next_line == "part" else f"{next_line[:40]!r} and {len(self.data) - self.at} bytes"
        raise DataError(f"{self.where} has {reason} behind the hexahedra of its part; only one part is read")


def read_geometry(data: bytes, where: str) -> tuple[Float[np.ndarray, "N 3"], Int[np.ndarray, "M 8"]]:
    """Return nodes in mm, float32, and elements from 0, int32; raises DataError, which names the file `where`."""
    content = _Content(data, where)
    header = data[:_LINE].split(b"\0")[0].decode("latin-1").strip()
    if header not in _HEADERS:
        raise DataError(
            f"{where} begins with {header[:40]!r}, not with {_HEADERS[0]!r}: it is a text file or no EnSight Gold "
            "geometry; write the results in binary"
        )
    for what in ("the header", "the description", "the description"):
        content.line(what)
    listed = []
    for kind in ("node", "element"):
        line = content.line(f"the {kind} ids")
        if not line.startswith(f"{kind} id "):
            raise DataError(f"{where} has {line[:40]!r} where '{kind} id' is expected; it is no EnSight Gold geometry")
        listed.append(line.removeprefix(f"{kind} id ").strip() in ("given", "ignore"))
    content.expect("part", "one part of hexahedra")
    content.integer("the part's number")
    content.line("the part's description")
    content.expect("coordinates", "one part of hexahedra")
    count = content.integer("the number of nodes")
    if listed[0]:
        content.take(4 * count, "the ids of the nodes")
    points = content.array("<f4", 3 * count, "the coordinates").reshape(3, count).T
    content.expect("hexa8", "hexahedra only")
    number = content.integer("the number of elements")
    if listed[1]:
        content.take(4 * number, "the ids of the elements")
    elements = content.array("<i4", 8 * number, "the elements").reshape(number, 8) - np.int32(1)
    content.end()
    if elements.size and not 0 <= elements.min() <= elements.max() < count:
        raise DataError(
            f"{where} has elements with the nodes {elements.min() + 1} to {elements.max() + 1} of {count}; "
            "it is damaged, get it again"
        )
    return np.ascontiguousarray(points), elements


def read_variable(data: bytes, components: int, count: int, where: str) -> Float[np.ndarray, "N C"]:
    """Return a field of `components` at the `count` nodes, float32; raises DataError, which names the file `where`."""
    content = _Content(data, where)
    content.line("the description")
    content.expect("part", "one field per node")
    content.integer("the part's number")
    content.expect("coordinates", "one field per node")
    values = content.array("<f4", components * count, f"{components} values at each of {count} nodes")
    content.end()
    if not np.isfinite(values).all():
        raise DataError(f"{where} holds NaN or infinite values; the simulation failed, leave the case out")
    return np.ascontiguousarray(values.reshape(components, count).T)


def write_geometry(points: Float[np.ndarray, "N 3"], elements: Int[np.ndarray, "M 8"], description: str) -> bytes:
    """Return the bytes of a geometry file."""
    head = (_HEADERS[0], "EnSight Gold Geometry File", description, "node id off", "element id off", "part")
    return b"".join(
        [
            *map(_line, head),
            _integer(1),
            _line(description),
            _line("coordinates"),
            _integer(len(points)),
            np.asarray(points, "<f4").T.tobytes(),
            _line("hexa8"),
            _integer(len(elements)),
            (np.asarray(elements, "<i4") + 1).astype("<i4").tobytes(),
        ]
    )


def write_variable(values: Float[np.ndarray, "N C"], description: str) -> bytes:
    """Return the bytes of the file of a field per node."""
    parts = [
        _line(description),
        _line("part"),
        _integer(1),
        _line("coordinates"),
        np.asarray(values, "<f4").T.tobytes(),
    ]
    return b"".join(parts)


def von_mises(stress: Float[np.ndarray, "*S 6"]) -> Float[np.ndarray, "*S"]:
    """Return the von Mises stress of tensors in the order `TENSOR`."""
    xx, yy, zz, xy, yz, xz = np.moveaxis(np.asarray(stress, np.float64), -1, 0)
    return np.sqrt(0.5 * ((xx - yy) ** 2 + (yy - zz) ** 2 + (zz - xx) ** 2) + 3.0 * (xy**2 + yz**2 + xz**2))


def principal(
    stress: Float[np.ndarray, "*S 6"],
) -> tuple[Float[np.ndarray, "*S 3"], Float[np.ndarray, "*S 3 3"]]:
    """Return the principal stresses, largest first, of tensors in the order `TENSOR`, and unit directions (rows)."""
    xx, yy, zz, xy, yz, xz = np.moveaxis(np.asarray(stress, np.float64), -1, 0)
    matrix = np.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], axis=-1).reshape(*xx.shape, 3, 3)
    values, vectors = np.linalg.eigh(matrix)
    return values[..., ::-1], np.swapaxes(vectors[..., ::-1], -1, -2)


def all_fields(stress: Float[np.ndarray, "N 6"]) -> Mapping[str, np.ndarray]:
    """Return the von Mises stress, principal stresses and directions by their names in `FIELDS`."""
    values, directions = principal(stress)
    named = {f"{rank}_stress": values[:, [column]] for column, rank in enumerate(("max", "mid", "min"))}
    named |= {f"{rank}_dir": directions[:, column] for column, rank in enumerate(("max", "mid", "min"))}
    return {"vmstr": von_mises(stress)[:, None], **named}


def _line(text: str) -> bytes:
    return text.encode("latin-1", "replace")[:_LINE].ljust(_LINE)


def _integer(value: int) -> bytes:
    return np.int32(value).astype("<i4").tobytes()

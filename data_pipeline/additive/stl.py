"""Binary STL files: triangles of a surface, in mm."""

import numpy as np
from jaxtyping import Float, Int

from data_pipeline.errors import DataError

_RECORD = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_HEADER = 80


def read_stl(data: bytes, where: str) -> tuple[Float[np.ndarray, "P 3"], Int[np.ndarray, "F 3"]]:
    """Return points, each once, and triangles; raises DataError, which names the file `where`."""
    if len(data) < _HEADER + 4:
        raise DataError(f"{where} has {len(data)} bytes, fewer than the header of a binary STL file; get it again")
    count = int(np.frombuffer(data, "<u4", 1, _HEADER)[0])
    if len(data) != _HEADER + 4 + count * _RECORD.itemsize:
        raise DataError(
            f"{where} has {len(data)} bytes, which do not fit its {count} triangles: it is damaged or a text file; "
            "write it as binary STL"
        )
    corners = np.frombuffer(data, _RECORD, count, _HEADER + 4)["corners"].reshape(-1, 3)
    if not np.isfinite(corners).all():
        raise DataError(f"{where} holds NaN or infinite coordinates; repair the surface")
    points, number = np.unique(corners, axis=0, return_inverse=True)
    return points, number.reshape(-1, 3).astype(np.int32)


def write_stl(points: Float[np.ndarray, "P 3"], faces: Int[np.ndarray, "F 3"]) -> bytes:
    """Return the bytes of a binary STL file."""
    records = np.zeros(len(faces), _RECORD)
    corners = np.asarray(points, np.float64)[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    records["normal"] = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-300)
    records["corners"] = corners
    return b"surface".ljust(_HEADER) + np.uint32(len(faces)).astype("<u4").tobytes() + records.tobytes()

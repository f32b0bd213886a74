"""From the frames of a build to the files: final state and series of a case, or the archive of a simulation."""

import io
import zipfile
from collections.abc import Iterable

import numpy as np

from data_pipeline.additive.archive import GENERATED, ROOT
from data_pipeline.additive.case import FinalCase, SeriesCase
from data_pipeline.additive.case_index import write_index
from data_pipeline.additive.ensight import FIELDS, OPTIONAL, write_geometry, write_variable
from data_pipeline.additive.generate.layered import Body
from data_pipeline.additive.generate.octree import Voxels
from data_pipeline.additive.generate.process import Frame, Process, von_mises_of
from data_pipeline.additive.graph import edges
from data_pipeline.additive.lattice import CORNERS
from data_pipeline.additive.merge import Step, state_on
from data_pipeline.additive.stl import write_stl

LOG = GENERATED + b"inherent strain and heat conduction, no simulation of the public set\nAnalysis completed\n"
# Two triangles on each side of a box of the corners of `CORNERS`, outwards.
_SIDES = {
    (0, -1): (0, 4, 7, 3),
    (0, 1): (1, 2, 6, 5),
    (1, -1): (0, 1, 5, 4),
    (1, 1): (3, 7, 6, 2),
    (2, -1): (0, 3, 2, 1),
    (2, 1): (4, 5, 6, 7),
}


def cases_of(name: str, body: Body, frames: Iterable[Frame]) -> tuple[FinalCase, SeriesCase]:
    """Return final state and series; the series lives on the mesh of part and plate."""
    zmax, times, states, last = [], [], [], None
    for number, frame in enumerate(frames):
        last = frame
        # The second frame of every group is its end; after the last group come the cooled and the released part.
        if number % 2 == 0 or frame.layer < len(zmax):
            continue
        top = float(frame.body.nodes[:, 2].max())
        step = Step(
            frame.body.nodes, frame.body.elements, frame.disp, von_mises_of(frame), frame.temp[:, None], frame.time
        )
        # Nodes of the next group that lie on top of this one get what a larger element has there.
        states.append(state_on(body.nodes, step, top).astype(np.float32))
        zmax.append(top)
        times.append(frame.time)
    series = np.stack(states)
    on = body.elements
    whole = SeriesCase(
        name,
        body.nodes,
        on,
        edges(on),
        np.array(zmax),
        np.array(times),
        series[..., :3],
        series[..., 3:4],
        series[..., 4:],
    )
    part = last.body
    final = FinalCase(
        name, part.nodes, part.elements, edges(part.elements), last.disp, von_mises_of(last), last.temp[:, None]
    )
    return final, whole


def archive_of(name: str, voxels: Voxels, body: Body, frames: Iterable[Frame], process: Process) -> bytes:
    """Return the bytes of a zip archive with the results of one part, as the simulation program lays them out."""
    buffer, prefix = io.BytesIO(), f"{name}_mechanical"
    folder, times, geometry_times = f"{ROOT}/{name}", [], []
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:

        def put(path: str, data: bytes | str) -> None:
            # Without the time of day, so that equal parts are equal files.
            info = zipfile.ZipInfo(f"{folder}/{path}")
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, data)

        for number, frame in enumerate(frames, start=1):
            times.append(frame.time)
            # Every group has one geometry for both frames, and so have the cooled and the released part each.
            if number % 2 == 1 or frame.layer < len(geometry_times) - 1:
                geometry_times.append(frame.time)
                geometry = write_geometry(frame.body.nodes, frame.body.elements, "part and plate")
                put(f"results/{prefix}_{len(geometry_times)}.geo", geometry)
            values = frame.fields(process)
            for suffix, (_, field) in FIELDS.items():
                if suffix not in OPTIONAL or number > 1:
                    put(f"results/{prefix}00_{number}.{suffix}.ens", write_variable(values[field], f"Nodal {field}"))
        put(f"results/{prefix}.case", write_index(prefix, times, geometry_times, tuple(FIELDS)))
        put(f"{prefix}.out", LOG)
        put("test.stl", write_stl(*surface_of(voxels)))
    return buffer.getvalue()


def surface_of(voxels: Voxels) -> tuple[np.ndarray, np.ndarray]:
    """Return points in mm and triangles of the surface of a part's cells, which is closed and faces outwards."""
    padded = np.pad(voxels.filled, 1)
    quads = []
    for (axis, sign), corners in _SIDES.items():
        empty = ~np.roll(padded, -sign, axis)
        cells = np.argwhere(padded & empty) - 1
        quads.append(cells[:, None] + CORNERS[list(corners)])
    places, number = np.unique(np.concatenate(quads).reshape(-1, 3), axis=0, return_inverse=True)
    number = number.reshape(-1, 4)
    half = np.array([voxels.filled.shape[0] / 2, voxels.filled.shape[1] / 2, 0.0])
    points = (places - half) * np.array(voxels.cell)
    return points, np.concatenate([number[:, [0, 1, 2]], number[:, [0, 2, 3]]])

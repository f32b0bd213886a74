"""Miniature files with the layout of the public ones, filled with recognisable or random numbers."""

import json
from pathlib import Path

import h5py
import numpy as np
import scipy.io

from data_pipeline.tfrecord import masked_crc


def write_mat(path: Path, arrays: dict[str, np.ndarray], *, hdf5: bool = False) -> None:
    """Write a MATLAB file of version 5, or of 7.3 with its reversed axes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not hdf5:
        scipy.io.savemat(path, arrays)
        return
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array.T


def write_darcy(data_dir: Path, samples: int = 6, resolution: int = 13, hdf5: bool = False) -> dict[str, np.ndarray]:
    """Write both files; return the arrays of the first with those of the second behind."""
    rng = np.random.default_rng(0)
    parts = []
    for number in (1, 2):
        shape = (samples, resolution, resolution)
        arrays = {"coeff": np.where(rng.random(shape) > 0.5, 12.0, 3.0), "sol": rng.random(shape)}
        folder = data_dir / "FNO" / "darcy"
        write_mat(folder / f"piececonst_r421_N1024_smooth{number}.mat", {**arrays, "Kcoeff": rng.random(3)}, hdf5=hdf5)
        parts.append(arrays)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def write_navier_stokes(data_dir: Path, samples: int = 6, side: int = 6, frames: int = 20, hdf5: bool = True):
    """Write the file; return u [n, side, side, frames]."""
    u = np.random.default_rng(0).normal(size=(samples, side, side, frames)).astype(np.float32)
    path = data_dir / "FNO" / "navier_stokes" / "NavierStokes_V1e-5_N1200_T20.mat"
    write_mat(path, {"u": u, "a": u[..., 0], "t": np.arange(1.0, frames + 1)[None]}, hdf5=hdf5)
    return u


def write_plasticity(data_dir: Path, samples: int = 5, frames: int = 4) -> dict[str, np.ndarray]:
    """Write a block of 101 × 31 points whose displacement grows with time."""
    rng = np.random.default_rng(0)
    i, j = np.meshgrid(np.arange(101), np.arange(31), indexing="ij")
    material = np.stack([0.35 - 0.5 * i, 14.9 - 0.5 * j], axis=-1)
    times = np.linspace(0, 1, frames)[:, None]
    size = rng.random((samples, 1, 1, 1, 1))
    shift = size * times * np.stack([0.1 * i, -0.1 * (30 - j)], axis=-1)[None, :, :, None]
    output = np.concatenate([material[None, :, :, None] + shift, np.broadcast_to(shift, shift.shape)], axis=-1)
    arrays = {"input": rng.random((samples, 101)), "output": output}
    write_mat(data_dir / "Geo-FNO" / "plasticity" / "plas_N987_T20.mat", arrays)
    return arrays


def write_curvilinear(folder: Path, prefix: str, channels: int, samples: int = 6, shape=(7, 5)) -> tuple:
    """Write X, Y and Q; return them."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    arrays = rng.random((samples, *shape)), rng.random((samples, *shape)), rng.random((samples, channels, *shape))
    for letter, array in zip("XYQ", arrays, strict=True):
        np.save(folder / f"{prefix}_{letter}.npy", array)
    return arrays


def write_pipe(data_dir: Path, **shape) -> tuple:
    return write_curvilinear(data_dir / "Geo-FNO" / "pipe", "Pipe", 3, **shape)


def write_airfoil(data_dir: Path, **shape) -> tuple:
    return write_curvilinear(data_dir / "Geo-FNO" / "airfoil" / "naca", "NACA_Cylinder", 5, **shape)


def write_drivaerml(data_dir: Path, size: str, points: int, runs: dict[str, tuple[int, ...]]) -> None:
    """Write runs whose first pressure is their number."""
    for split, numbers in runs.items():
        folder = data_dir / "DrivAerML" / f"drivaerml_surface_presampled_{size}" / split
        folder.mkdir(parents=True)
        for number in numbers:
            rng = np.random.default_rng(number)
            fields = rng.normal(size=(points, 4)).astype(np.float32)
            fields[0, 0] = number
            np.savez(folder / f"run_{number}.npz", surface_mesh_centers=rng.random((points, 3)), surface_fields=fields)


def write_lpbf(data_dir: Path, counts: dict[str, tuple[int, ...]]) -> None:
    """Write parts with these numbers of nodes."""
    for split, sizes in counts.items():
        folder = data_dir / "LPBF_FLARE" / split
        folder.mkdir(parents=True)
        for number, size in enumerate(sizes):
            rng = np.random.default_rng(number)
            np.savez(
                folder / f"case_{number:03d}.npz",
                pos=rng.uniform(-30, 30, (size, 3)),
                edge_index=np.zeros((2, 4), int),
                elems=np.zeros((1, 8), int),
                temp=rng.uniform(20, 500, (size, 1)),
                disp=rng.normal(size=(size, 3)),
                vmstr=rng.uniform(0, 1000, (size, 1)),
                _metadata=np.array(json.dumps({"case_name": f"case_{number}", "zmax": [1.0], "time_steps": 1})),
            )


def vtk_surface(points: np.ndarray, quads: np.ndarray) -> str:
    """Return a legacy VTK file in text form with quadrilaterals."""
    lines = ["# vtk DataFile Version 2.0", "surface", "ASCII", "DATASET UNSTRUCTURED_GRID"]
    lines += [f"POINTS {len(points)} float", *(" ".join(f"{value:.6f}" for value in point) for point in points)]
    lines += [f"CELLS {len(quads)} {5 * len(quads)}", *(f"4 {' '.join(map(str, quad))}" for quad in quads)]
    return "\n".join([*lines, f"CELL_TYPES {len(quads)}", *["9"] * len(quads)]) + "\n"


def write_car(case: Path, number: int) -> None:
    """Write a car of 9 points of which one belongs to no quadrilateral; its pressures are 100 · number + point."""
    case.mkdir(parents=True)
    points = np.random.default_rng(number).uniform(-1, 1, (9, 3))
    quads = np.array([[0, 1, 3, 4], [4, 5, 6, 7], [1, 7, 8, 0]])  # point 2 is unused
    (case / "quadpress_smpl.vtk").write_text(vtk_surface(points, quads))
    np.save(case / "press.npy", 100.0 * number + np.arange(9, dtype=np.float32))


def example_bytes(features: dict[str, bytes]) -> bytes:
    """Return a serialized tf.train.Example with one byte string per feature."""

    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2]) + varint(len(content)) + content

    entries = (field(1, key.encode()) + field(2, field(1, field(1, value))) for key, value in features.items())
    return field(1, b"".join(field(1, entry) for entry in entries))


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def write_tfrecord(path: Path, messages: list[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for message in messages:
            length = len(message).to_bytes(8, "little")
            file.write(length + masked_crc(length).to_bytes(4, "little") + message + bytes(4))


def write_mesh_series(data_dir: Path, name: str, counts: dict[str, tuple[int, ...]], frames: int = 8) -> dict:
    """Write cases with these numbers of nodes; return the arrays of every case by split."""
    folder = data_dir / "MeshGraphNets" / name
    static = {"type": "static", "dtype": "float32"}
    meta = {
        "simulator": "comsol",
        "dt": 0.01,
        "trajectory_length": frames,
        "field_names": ["cells", "mesh_pos", "node_type", "velocity", "pressure"],
        "features": {
            "cells": {"type": "static", "shape": [1, -1, 3], "dtype": "int32"},
            "mesh_pos": {**static, "shape": [1, -1, 2]},
            "node_type": {"type": "static", "shape": [1, -1, 1], "dtype": "int32"},
            "velocity": {"type": "dynamic", "shape": [frames, -1, 2], "dtype": "float32"},
            "pressure": {"type": "dynamic", "shape": [frames, -1, 1], "dtype": "float32"},
        },
    }
    written = {}
    for split, sizes in counts.items():
        cases = [_mesh_case(len(written) * 100 + number, size, frames) for number, size in enumerate(sizes)]
        write_tfrecord(folder / f"{split}.tfrecord", [example_bytes(_as_bytes(case)) for case in cases])
        written[split] = cases
    (folder / "meta.json").write_text(json.dumps(meta))
    return written


def _mesh_case(seed: int, nodes: int, frames: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    velocity = np.cumsum(rng.normal(size=(frames, nodes, 2)), axis=0)
    types = rng.choice([0, 4, 5, 6], size=(1, nodes, 1))
    types[0, :4, 0] = [0, 4, 5, 6]
    return {
        "cells": rng.integers(0, nodes, (1, 3, 3)).astype(np.int32),
        "mesh_pos": rng.random((1, nodes, 2)).astype(np.float32),
        "node_type": types.astype(np.int32),
        "velocity": velocity.astype(np.float32),
        "pressure": rng.random((frames, nodes, 1)).astype(np.float32),
    }


def _as_bytes(case: dict[str, np.ndarray]) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in case.items()}

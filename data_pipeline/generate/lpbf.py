"""Stand-ins with the files of the LPBF set: random parts with a one-step linear shrinkage, no process simulation.

A part is a union of a few upright boxes and cylinders of cubes of 2.5 mm. The displacement is that of a linear elastic
body of titanium that shrinks by an inherent strain and sticks to the plate (`hexahedra`); printing layer by layer,
plasticity and the release of supports are left out. The temperature is a formula in the height below the top.
"""

import json
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64

from data_pipeline.generate import hexahedra
from data_pipeline.generate.chunks import Samples
from data_pipeline.generate.generator import Generator
from data_pipeline.generate.splits import held_out
from data_pipeline.pde.lpbf import N_TEST, N_TRAIN

SIZE = 2.5  # mm
LATTICE = (24, 24, 24)  # build volume 60 x 60 x 60 mm
MATERIAL = hexahedra.elasticity_matrix(young=110e3, poisson=0.34)  # MPa
INHERENT = np.array([-0.008, -0.008, -0.005, 0.0, 0.0, 0.0])
_PLATE_TEMPERATURE, _TOP_TEMPERATURE, _DECAY = 100.0, 500.0, 15.0  # °C, °C, mm
_ARRAYS = ("pos", "disp", "vmstr", "temp")


def part(rng: np.random.Generator) -> Bool[np.ndarray, "24 24 24"]:
    """Return the filled cells of a random part: 2 to 4 boxes or cylinders that overlap, all standing on the plate."""
    filled = np.zeros(LATTICE, bool)
    x, y, z = (axis + 0.5 for axis in np.mgrid[0:24, 0:24, 0:24])
    centre = np.array([12.0, 12.0])
    for _ in range(rng.integers(2, 5)):
        half = rng.uniform(1.5, 5.0, size=2)
        height = rng.integers(2, 25)
        if rng.random() < 0.5:
            inside = (np.abs(x - centre[0]) < half[0]) & (np.abs(y - centre[1]) < half[1])
        else:
            inside = ((x - centre[0]) / half[0]) ** 2 + ((y - centre[1]) / half[1]) ** 2 < 1.0
        filled |= inside & (z < height)
        centre = np.clip(centre + rng.uniform(-1.0, 1.0, 2) * half, 5.0, 19.0)
    return filled


def solve_part(seed: int, index: int) -> dict[str, np.ndarray]:
    """Return nodes `pos` in mm, `elems`, and at the nodes `disp` in mm, `vmstr` in MPa and `temp` in °C."""
    nodes, elements = hexahedra.mesh(part(np.random.default_rng([seed, index])))
    moved = hexahedra.displacement(nodes, elements, SIZE, MATERIAL, INHERENT)
    stress = hexahedra.nodal_von_mises(moved, elements, SIZE, MATERIAL, INHERENT)
    below = SIZE * (nodes[:, 2].max() - nodes[:, 2])
    return {
        "pos": (SIZE * (nodes - np.array([12, 12, 0]))).astype(np.float32),
        "elems": elements.astype(np.int64),
        "disp": moved.astype(np.float32),
        "vmstr": stress[:, None].astype(np.float32),
        "temp": _temperature(below)[:, None].astype(np.float32),
    }


def _temperature(below: Float64[np.ndarray, "N"]) -> Float64[np.ndarray, "N"]:
    return _PLATE_TEMPERATURE + (_TOP_TEMPERATURE - _PLATE_TEMPERATURE) * np.exp(-below / _DECAY)


def _solve(seed: int, indices: range) -> dict[str, np.ndarray]:
    """Solve the parts and pad their arrays to the largest among them."""
    parts = [solve_part(seed, index) for index in indices]
    arrays = {"nodes": np.array([len(one["pos"]) for one in parts]), "elements": [len(one["elems"]) for one in parts]}
    for name in (*_ARRAYS, "elems"):
        arrays[name] = np.zeros((len(parts), max(len(one[name]) for one in parts), *parts[0][name].shape[1:]))
        arrays[name] = arrays[name].astype(parts[0][name].dtype)
        for row, one in zip(arrays[name], parts, strict=True):
            row[: len(one[name])] = one[name]
    return {name: np.asarray(array) for name, array in arrays.items()}


def _export(arrays: Samples, folder: Path) -> None:
    train = arrays.num - held_out(arrays.num, N_TEST, N_TRAIN + N_TEST)
    for name in ("train", "test"):
        (folder / name).mkdir(exist_ok=True)
    for number, row in enumerate(arrays.rows()):
        case = f"synthetic_{number:06d}"
        elements = row["elems"][: row["elements"]]
        fields = {name: row[name][: row["nodes"]] for name in _ARRAYS}
        zmax = float(fields["pos"][:, 2].max())
        metadata = {"case_name": case, "zmax": zmax, "time_steps": round(zmax / SIZE), "synthetic": True}
        np.savez(
            folder / ("train" if number < train else "test") / f"{case}.npz",
            **fields,
            elems=elements,
            edge_index=hexahedra.edges(elements),
            _metadata=np.array(json.dumps(metadata)),
        )


GENERATOR = Generator(
    name="lpbf",
    folder="LPBF_FLARE",
    files=("train", "test"),
    num=N_TRAIN + N_TEST,
    chunk=5,
    solver="SYNTHETIC STAND-IN: one-step inherent-strain linear elasticity on voxel parts, no process simulation",
    version=1,
    details={
        "pos": "nodes in mm, z upwards from the plate, float32",
        "disp, vmstr, temp": "displacement in mm, von Mises stress in MPa, formula for the temperature in °C, float32",
        "elems, edge_index": "hexahedra in VTK's order, edges in both directions, int64",
        "split": f"the last {N_TEST} in {N_TRAIN + N_TEST} parts are in test, the others in train",
    },
    solve=_solve,
    export=_export,
)

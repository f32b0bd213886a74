"""Series in time as a transient program would leave them: `python cooling_plates.py --out=DIR`.

Steel plates that were heated unevenly and are held at 20 °C along their edges: one folder per plate with a .vtu file a
minute and the collection `plate.pvd` that gives their times, with the temperature `T` in °C at the nodes of triangles,
`edge` for the nodes that are held, and `core` for those in the middle. Every shape of sines that vanishes at the edges
decays by itself, so that the solution is exact. Needs pyvista.
"""

import argparse
from pathlib import Path

import numpy as np
import pyvista as pv

DIFFUSIVITY, COLD, MINUTE, STEPS = 1.2e-5, 20.0, 60.0, 9


def plate(number: int) -> tuple[pv.UnstructuredGrid, list[np.ndarray]]:
    """Return the mesh of one plate, coordinates in m, and the temperature [N] at every minute."""
    rng = np.random.default_rng((4, number))
    sides = rng.uniform(0.15, 0.3, 2)
    counts = rng.integers(14, 21, 2)
    flat = pv.ImageData(dimensions=(*counts, 1), spacing=(*(sides / (counts - 1)), 1.0)).triangulate()
    points = np.array(flat.points, np.float64)
    inside = np.all(np.abs(points[:, :2] / sides - 0.5) < 0.5 - 1e-6, axis=1)
    points[inside, :2] += rng.uniform(-0.25, 0.25, (inside.sum(), 2)) * sides / (counts - 1)
    mesh = pv.UnstructuredGrid({pv.CellType.TRIANGLE: flat.cells_dict[pv.CellType.TRIANGLE]}, points)
    mesh.point_data["edge"] = (~inside).astype(np.int8)
    mesh.point_data["core"] = np.all(np.abs(points[:, :2] / sides - 0.5) < 0.25, axis=1).astype(np.int8)
    waves = np.stack(np.meshgrid(np.arange(1, 4), np.arange(1, 4)), axis=-1).reshape(-1, 2)
    heights = rng.normal(size=len(waves)) * 120 / (waves**2).sum(1)
    heights[0] += 200
    shapes = np.sin(np.pi * points[:, None, :2] * waves / sides).prod(-1)
    rates = DIFFUSIVITY * np.square(np.pi * waves / sides).sum(1)
    return mesh, [COLD + shapes @ (heights * np.exp(-rates * MINUTE * step)) for step in range(STEPS)]


def main() -> None:
    """Write the plates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--num", type=int, default=48)
    options = parser.parse_args()
    for number in range(options.num):
        folder = options.out / f"plate_{number:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        mesh, temperatures = plate(number)
        lines = []
        for step, temperature in enumerate(temperatures):
            mesh.point_data["T"] = temperature
            mesh.save(folder / f"plate_{step:02d}.vtu")
            lines.append(f'<DataSet timestep="{MINUTE * step:g}" file="plate_{step:02d}.vtu"/>')
        collection = f'<VTKFile type="Collection" version="0.1"><Collection>{"".join(lines)}</Collection></VTKFile>\n'
        (folder / "plate.pvd").write_text(collection)


if __name__ == "__main__":
    main()

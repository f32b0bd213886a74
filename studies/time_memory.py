"""How do time and memory of one layer grow with the points? Softmax, physics attention and FLARE, `benchmarks.scaling`.

    python -m experiments.sweep --study=studies/time_memory.py --jobs=1

One layer of 128 channels and 8 heads, forward and backward, batch 1: ours in bfloat16, the original's in float16 on an
H100 80GB. Nothing else should run on the GPU meanwhile.
"""

from pathlib import Path

from benchmarks.scaling import Table
from benchmarks.scaling_figure import NAMES
from experiments.sweep.figures import Curves
from experiments.sweep.study import Measurement, Study, choose_variant, grid

POINTS = (1_000, 100_000, 200_000, 400_000, 600_000, 800_000, 1_000_000)
# Of the original, a column for each number of points: seconds, GB.
SECONDS = {
    "softmax": ".00070 .187 .743 2.99 6.72 11.9 18.5",
    "flare 128": ".0026 .0089 .0165 .0305 .0449 .0587 .0725",
    "flare 512": ".0026 .0100 .0182 .0344 .0503 .0658 .0812",
    "flare 2048": ".0026 .0141 .0267 .0511 .0756 .0999 .123",
    "physics 128": ".0022 .0101 .0200 .0472 .0845 .116 .146",
    "physics 512": ".0022 .0345 .0717 .177 .326 .747 -",
    "physics 2048": ".0030 .133 .789 - - - -",
}
MEMORY = {
    "softmax": ".07 .61 1.16 2.24 3.36 4.42 5.45",
    "flare 128": ".08 .95 1.84 3.61 5.45 7.15 8.85",
    "flare 512": ".08 .95 1.84 3.61 5.45 7.15 8.85",
    "flare 2048": ".08 .96 1.84 3.61 5.45 7.15 8.85",
    "physics 128": ".09 2.5 5.0 9.8 14.9 19.6 24.3",
    "physics 512": ".16 9.0 17.8 35.6 54.1 71.2 -",
    "physics 2048": ".41 34.7 69.4 - - - -",
}


def get_study(variant: str) -> Study:
    """Return the study; `smoke` has one small FLARE layer on any device."""
    more = ("--quick", "--frameworks=jax", "--mixers=flare", "--points=128")
    arguments = ("--out={folder}", "--resume", *choose_variant(variant, ("--seconds=7200",), more))
    return Study(
        name="time_memory",
        title="One layer, forward and backward",
        columns=("layer", "points"),
        parts=(Measurement(module="benchmarks.scaling", arguments=arguments, read=read_rows),),
        figures={"time_memory": Curves(x="points", lines="layer", metrics=("seconds", "peak_gib"))},
        metrics=("seconds", "peak_gib"),
        published={"seconds": published(SECONDS, 1.0), "peak_gib": published(MEMORY, 1e9 / 2**30)},
    )


def read_rows(folder: Path) -> list[tuple[dict, dict]]:
    """Return what was measured, and the places of what is published, whose numbers of points are others."""
    path = folder / "scaling.csv"
    rows = [({"layer": layer, "points": points}, {}) for layer, points in published(SECONDS, 1.0)]
    for point in Table.read(path).points if path.is_file() else ():
        framework, mixer, size = point.series
        layer = name_of(f"{mixer} {size}" if size else mixer) + (" (PyTorch)" if framework == "torch" else "")
        numbers = {"seconds": point.seconds, "peak_gib": point.mebibytes and point.mebibytes / 2**10}
        rows.append(({"layer": layer, "points": point.points}, {n: v for n, v in numbers.items() if v is not None}))
    return rows


def published(rows: dict[str, str], scale: float) -> dict[tuple[str, int], float]:
    """Return the published numbers by layer and points."""
    return {(name_of(name), points): value for (name, points), value in grid(rows, POINTS, scale).items()}


def name_of(text: str) -> str:
    """Return the name of a layer, such as FLARE 128."""
    mixer, _, size = text.partition(" ")
    return f"{NAMES[mixer]} {size}".strip()

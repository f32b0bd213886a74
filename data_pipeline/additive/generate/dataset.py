"""The generated LPBF set: parts by a layered inherent strain, as published files with their series, or as archives."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_pipeline.additive.case import FinalCase, SeriesCase, write_case
from data_pipeline.additive.generate.export import archive_of, cases_of
from data_pipeline.additive.generate.octree import FINEST, Resolution, build_mesh
from data_pipeline.additive.generate.parts import random_part
from data_pipeline.additive.generate.process import Process, build
from data_pipeline.additive.published import SERIES, SPLITS, file_name, write_final, write_index
from data_pipeline.generate.chunks import Samples
from data_pipeline.generate.generator import Generator, Settings
from data_pipeline.generate.splits import held_out

FOLDER, ARCHIVES = "LPBF_FLARE", "LPBF_archives"
N_TRAIN, N_TEST = 1100, 290
_SERIES_PREFIX = "series_"
_DIFFERS = "linear elastic, without plasticity; random solids, not CAD models; displacements are smaller"


def case_name(kind: str, seed: int, index: int) -> str:
    """Return the name of a generated part."""
    return f"generated_{kind}_{seed}_{index:05d}"


def solve_part(seed: int, index: int, resolution: Resolution = FINEST) -> tuple[FinalCase, SeriesCase]:
    """Return final state and series of part `index`."""
    kind, voxels = random_part(seed, index, resolution)
    body = build_mesh(voxels, resolution)
    return cases_of(case_name(kind, seed, index), body, build(body, Process()))


def solve_archive(seed: int, index: int, resolution: Resolution = FINEST) -> tuple[str, bytes]:
    """Return the name of part `index` and the archive of its simulation."""
    kind, voxels = random_part(seed, index, resolution)
    body, process = build_mesh(voxels, resolution), Process()
    name = case_name(kind, seed, index)
    return name, archive_of(name, voxels, body, build(body, process), process)


def _files(resolution: Resolution) -> Generator:
    def solve(seed: int, indices: range) -> dict[str, np.ndarray]:
        (index,) = indices
        final, series = solve_part(seed, index, resolution)
        arrays = {name: _compact(array) for name, array in final.arrays().items()}
        arrays |= {f"{_SERIES_PREFIX}{name}": _compact(array) for name, array in series.arrays().items()}
        return {"name": _letters(final.name), **{name: array[None] for name, array in arrays.items()}}

    return Generator(
        name="lpbf",
        folder=FOLDER,
        files=(*SPLITS, SERIES, "index.json"),
        num=N_TRAIN + N_TEST,
        chunk=1,
        solver="layered inherent strain on octree meshes, linear elastic, with cooling and release; heat conduction",
        version=2,
        details={
            "pos": "nodes in mm, z upwards from the plate, float32",
            "disp, vmstr, temp": "mm, MPa and °C after cooling and removal from the plate, float32",
            "series": "the same parts with their plate after every group of layers of 2.4 mm",
            "differs": _DIFFERS,
            "split": f"the last {N_TEST} in {N_TRAIN + N_TEST} parts are in test, the others in train",
        },
        solve=solve,
        export=_export_files,
        settings={"resolution": resolution.layers},
        configure=lambda settings: _files(_chosen(settings, "lpbf")),
        ragged=True,
    )


def _archives(resolution: Resolution) -> Generator:
    def solve(seed: int, indices: range) -> dict[str, np.ndarray]:
        (index,) = indices
        name, content = solve_archive(seed, index, resolution)
        return {"name": _letters(name), "archive": np.frombuffer(content, np.uint8)[None]}

    return replace(
        _files(resolution),
        name="lpbf_archives",
        folder=ARCHIVES,
        files=("archives",),
        details={
            "archives": "one zip archive per part, with all frames and fields as EnSight Gold files, mm, MPa and °C",
            "differs": _DIFFERS,
        },
        solve=solve,
        export=_export_archives,
        configure=lambda settings: _archives(_chosen(settings, "lpbf_archives")),
    )


def _chosen(settings: Settings, name: str) -> Resolution:
    settings.refuse("resolution", name)
    return FINEST if settings.resolution is None else Resolution(settings.resolution)


def _export_files(arrays: Samples, folder: Path) -> None:
    train = arrays.num - held_out(arrays.num, N_TEST, N_TRAIN + N_TEST)
    for split in SPLITS:
        (folder / split).mkdir(exist_ok=True)
        (folder / SERIES / split).mkdir(parents=True, exist_ok=True)
    rows = {split: [] for split in SPLITS}
    for number, row in enumerate(arrays.rows()):
        split = "train" if number < train else "test"
        name = _text(row.pop("name"))
        final, series = _parted(row)
        rows[split].append(write_final(folder / split, number, FinalCase(name, **final), generated=True))
        write_case(folder / SERIES / split / file_name(number, name), SeriesCase(name, **series))
    write_index(folder, rows)


def _export_archives(arrays: Samples, folder: Path) -> None:
    target = folder / "archives"
    target.mkdir(exist_ok=True)
    for row in arrays.rows():
        (target / f"{_text(row['name'])}.zip").write_bytes(row["archive"].tobytes())


def _parted(row: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the arrays of the final state and of the series."""
    series = {name for name in row if name.startswith(_SERIES_PREFIX)}
    return {name: row[name] for name in row if name not in series}, {
        name.removeprefix(_SERIES_PREFIX): row[name] for name in series
    }


def _compact(array: np.ndarray) -> np.ndarray:
    return array.astype(np.int32 if array.dtype.kind in "iu" else np.float32)


def _letters(name: str) -> np.ndarray:
    return np.frombuffer(name.encode(), np.uint8)[None]


def _text(letters: np.ndarray) -> str:
    return letters.tobytes().decode()


GENERATORS = {"files": _files(FINEST), "archives": _archives(FINEST)}

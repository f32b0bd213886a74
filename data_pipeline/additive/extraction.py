"""Extraction of result archives into one file per case, restartable, with the reason of every failure.

OUT/final/<case>.npz    the state after cooling and release, all fields of the simulation and the CAD surface
OUT/steps/<case>.npz    the states after every group of layers, each on its own mesh, if asked for
OUT/failures.json       {case: reason};  OUT/series.json   {case: number of groups}
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_pipeline.additive.archive import ROOT, Simulation, cases, opened, sources
from data_pipeline.additive.case import write_case
from data_pipeline.additive.case_index import MOST_FRAMES
from data_pipeline.additive.merge import Step
from data_pipeline.errors import DataError
from data_pipeline.files import SOURCE_FILE
from data_pipeline.generate.progress import show_progress
from data_pipeline.numpy_files import open_npz
from runtime.files import remove_leftovers, replacing
from runtime.json_files import read_object, write_json

FINAL, STEPS, SERIES, FEATURES = "final", "steps", "series", "features"
FAILURES, LAYERS = "failures.json", "series.json"
_STEP_ARRAYS = ("pos", "elems", "disp", "vmstr", "temp")


@dataclass(frozen=True)
class Outcome:
    """How many cases were extracted now, were there before, and failed for which reason."""

    extracted: int
    kept: int
    failures: dict[str, str]


def extract(
    source: Path,
    out: Path,
    *,
    series: bool = False,
    root: str = ROOT,
    most_frames: int = MOST_FRAMES,
    progress: bool = True,
    say: Callable[[str], None] = print,
) -> Outcome:
    """Extract all cases of an archive, or of the archives in a folder; those that are there already are left alone.

    A damaged archive or case is listed in failures.json with its reason, and the others go on. Raises DataError where
    nothing can be read at all.
    """
    folders = [FINAL, *([STEPS] if series else [])]
    for folder in folders:
        (out / folder).mkdir(parents=True, exist_ok=True)
        remove_leftovers(out / folder)
    failures, layers = _known(out / FAILURES), _known(out / LAYERS)
    extracted = kept = 0
    found = sources(source, root)
    for number, archive in enumerate(found, start=1):
        label = archive.name if len(found) == 1 else f"{archive.name} ({number} of {len(found)})"
        try:
            with opened(archive) as files:
                names = cases(files, root)
                failures.pop(archive.name, None)
                todo = [name for name in names if not all((out / one / f"{name}.npz").exists() for one in folders)]
                kept += len(names) - len(todo)
                with show_progress(label, len(names), len(names) - len(todo), progress) as advance:
                    for name in todo:
                        try:
                            simulation = Simulation(files, name, root, most_frames)
                            _write(simulation, out, series)
                            layers[name] = simulation.layers
                            failures.pop(name, None)
                            extracted += 1
                            if simulation.generated:
                                _mark_generated(out)
                        except DataError as error:
                            failures[name] = str(error)
                            say(f"{name}: {error}")
                        advance(1)
        except DataError as error:
            if len(found) == 1:
                raise
            failures[archive.name] = str(error)
            say(f"{archive.name}: {error}")
        write_json(out / FAILURES, dict(sorted(failures.items())))
        write_json(out / LAYERS, dict(sorted(layers.items())))
    return Outcome(extracted, kept, failures)


def read_steps(path: Path) -> list[Step]:
    """Read the states of a case, each on its own mesh; raises DataError."""
    with open_npz(path) as archive:
        missing = [name for name in ("times", *(f"{name}_0" for name in _STEP_ARRAYS)) if name not in archive.files]
        if missing:
            raise DataError(f"{path} lacks the arrays {missing}; extract the case again with --series")
        times = archive.read("times")
        return [
            Step(**{name: archive.read(f"{name}_{k}") for name in _STEP_ARRAYS}, time=float(time))
            for k, time in enumerate(times)
        ]


def _write(simulation: Simulation, out: Path, series: bool) -> None:
    """Write the files of a case, the final state last: where it is, all of them are."""
    final = simulation.final()
    if series:
        steps = simulation.steps()
        arrays = {f"{name}_{k}": getattr(step, name) for k, step in enumerate(steps) for name in _STEP_ARRAYS}
        with replacing(out / STEPS / f"{simulation.case}.npz") as temporary:
            np.savez_compressed(temporary, times=np.array([step.time for step in steps]), **arrays)
    write_case(out / FINAL / f"{simulation.case}.npz", final)


def _mark_generated(out: Path) -> None:
    """Say that cases of this folder come from the generator of this project."""
    if not (out / SOURCE_FILE).exists():
        write_json(out / SOURCE_FILE, {"generated": True, "complete": True, "solver": "archives that were generated"})


def _known(path: Path) -> dict:
    """Return what an earlier run wrote, empty where there was none."""
    try:
        return read_object(path)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise DataError(f"{path} cannot be read ({error}); delete it and run the command again") from error

"""Archives of simulations: zip files or folders with `SandBox/<case>/results/[<case>_]mechanical...` of many parts."""

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np

from data_pipeline.additive.case import FinalCase
from data_pipeline.additive.case_index import MOST_FRAMES, CaseIndex, read_index
from data_pipeline.additive.ensight import FIELDS, OPTIONAL, read_geometry, read_variable
from data_pipeline.additive.graph import edges
from data_pipeline.additive.merge import Step
from data_pipeline.additive.stl import read_stl
from data_pipeline.errors import DataError

ROOT = "SandBox"
_STEP_FIELDS = ("dis", "svm", "tmp")
GENERATED = b"Generated: "  # the beginning of the log of a simulation that this project generated
_TERMINATED = b"Analysis terminated"


class Files(Protocol):
    """The files of an archive: the set of their names and the bytes of each."""

    names: frozenset[str]

    def read(self, name: str) -> bytes:
        """Return the bytes of a file; raises DataError where it is damaged."""


class _Zip:
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self.names = frozenset(archive.namelist())

    def read(self, name: str) -> bytes:
        try:
            return self._archive.read(name)
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError) as error:
            raise DataError(f"{name} cannot be unpacked ({error}); get the archive again") from error


class _Folder:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        found = (path for path in folder.rglob("*") if path.is_file())
        self.names = frozenset(path.relative_to(folder).as_posix() for path in found)

    def read(self, name: str) -> bytes:
        try:
            return (self._folder / name).read_bytes()
        except OSError as error:
            raise DataError(f"{name} cannot be read ({error.strerror or error}); get it again") from error


@contextmanager
def opened(source: Path) -> Iterator[Files]:
    """Open a zip file or a folder that holds `SandBox`; raises DataError for anything else."""
    if source.is_dir():
        yield _Folder(source)
        return
    try:
        with zipfile.ZipFile(source) as archive:
            yield _Zip(archive)
    except FileNotFoundError as error:
        raise DataError(f"{source} does not exist; name a zip archive, or a folder of archives or results") from error
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{source} cannot be read as a zip archive ({error}); get it again") from error


def sources(path: Path, root: str = ROOT) -> list[Path]:
    """Return the archives that `path` stands for: itself, or the zip files in a folder without results of its own."""
    if path.is_dir() and not (path / root).is_dir():
        found = sorted(entry for entry in path.glob("*.zip") if not entry.name.startswith("."))
        if not found:
            raise DataError(f"{path} holds neither zip archives nor a folder {root}; name the archives of simulations")
        return found
    return [path]


def cases(files: Files, root: str = ROOT) -> list[str]:
    """Return, sorted, the names of the parts, from the names of their files alone; raises DataError for none."""
    start = f"{root}/"
    found = {name[len(start) :].split("/", 1)[0] for name in files.names if name.startswith(start) and name != start}
    if not found - {""}:
        raise DataError(f"the archive holds no file below {root}/; name an archive of simulations")
    return sorted(found - {""})


class Simulation:
    """The results of one part; raises DataError, with the reason, where they are not complete."""

    def __init__(self, files: Files, case: str, root: str = ROOT, most_frames: int = MOST_FRAMES) -> None:
        self.case, self._files, self._folder = case, files, f"{root}/{case}"
        self._prefix = self._find_prefix()
        log = self._log()
        self.generated = log is not None and log.startswith(GENERATED)
        if log is not None and _TERMINATED in log:
            raise DataError("the simulation was terminated, its log says; leave the case out or run it again")
        name = self._result(".case")
        if name not in files.names:
            raise DataError(f"it has no case file ({name}); the simulation wrote no results, run it again")
        text = files.read(name).decode("utf-8", "replace")
        self.index: CaseIndex = read_index(text, name)
        self.layers = self.index.layers(most_frames)

    def final(self) -> FinalCase:
        """Return the state after cooling and removal from the plate, with all its fields and the surface."""
        points, elements = self._geometry(self.layers + 2)
        arrays = self._fields(2 * self.layers + 2, len(points), tuple(FIELDS))
        others = {name: array for name, array in arrays.items() if name not in ("disp", "vmstr", "temp")}
        main = {name: arrays[name] for name in ("disp", "vmstr", "temp")}
        return FinalCase(self.case, points, elements, edges(elements), **main, others={**others, **self._surface()})

    def steps(self) -> list[Step]:
        """Return the states after every group of layers, each on its own mesh."""
        return [self._step(group) for group in range(1, self.layers + 1)]

    def _step(self, group: int) -> Step:
        points, elements = self._geometry(group)
        arrays = self._fields(2 * group, len(points), _STEP_FIELDS)
        return Step(points, elements, **arrays, time=self.index.fields.times[2 * group - 1])

    def _geometry(self, position: int) -> tuple[np.ndarray, np.ndarray]:
        name = self._result(f"_{self.index.geometries.numbers[position - 1]}.geo")
        return read_geometry(self._read(name), name)

    def _fields(self, position: int, count: int, suffixes: Sequence[str]) -> dict[str, np.ndarray]:
        frame = self.index.fields.numbers[position - 1]
        found = {}
        for suffix in suffixes:
            components, field = FIELDS[suffix]
            name = self._result(f"00_{frame}.{suffix}.ens")
            if suffix not in OPTIONAL or name in self._files.names:
                found[field] = read_variable(self._read(name), components, count, name)
        return found

    def _surface(self) -> dict[str, np.ndarray]:
        name = f"{self._folder}/test.stl"
        if name not in self._files.names:
            return {}
        points, faces = read_stl(self._read(name), name)
        return {"stl_verts": points, "stl_faces": faces}

    def _read(self, name: str) -> bytes:
        if name not in self._files.names:
            raise DataError(f"it lacks the file {name}; get the archive again")
        return self._files.read(name)

    def _result(self, end: str) -> str:
        return f"{self._folder}/results/{self._prefix}mechanical{end}"

    def _find_prefix(self) -> str:
        """Return what names of files begin with, the name of the case or nothing, for the whole case."""
        long = f"{self.case}_"
        first = (f"{self._folder}/{long}mechanical.out", f"{self._folder}/results/{long}mechanical.case")
        return long if any(name in self._files.names for name in first) else ""

    def _log(self) -> bytes | None:
        name = f"{self._folder}/{self._prefix}mechanical.out"
        return self._files.read(name) if name in self._files.names else None

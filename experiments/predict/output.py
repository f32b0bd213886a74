"""Where predictions go: a file, a folder with a file per input, or the groups of an HDF5 file."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from data_pipeline import vtk
from data_pipeline.custom.readers import HDF5_SUFFIXES, Reference
from data_pipeline.custom.sample import Cells, Contents
from data_pipeline.custom.writers import all_arrays, check_known, holding_fields, write_contents, write_group
from experiments.errors import UserError


class Output:
    """The places of all predictions, which are known, and different, before the first is made.

    `path` is where all of them are. An HDF5 file appears when the last one is written, in a `with` block.
    """

    def __init__(self, references: Sequence[Reference], source: Path, path: Path) -> None:
        """Raises UserError and DataError for a place that cannot take them all or would replace an input."""
        self._grouped = len(references) > 1 and path.suffix.lower() in HDF5_SUFFIXES
        # A folder gives a folder, also where it holds one sample, unless a file is named.
        alone = len(references) == 1 and (bool(path.suffix) or not source.is_dir())
        if alone or self._grouped:
            check_known(path)
        elif path.suffix:
            raise UserError(
                f"--output={path} is one file, but --input={source} holds {len(references)} samples; name a folder or "
                "an HDF5 file"
            )
        self._wanted = {one: path / f"{one.name}{one.path.suffix}" for one in references}
        if alone:
            self._wanted = {references[0]: path}
            path = holding_fields(path)
        self.path = path
        self._check_places(references, source)
        self._file: h5py.File | None = None

    def place(self, reference: Reference) -> Path:
        """Return the file of a prediction; a group of the HDF5 file has the name of the sample."""
        return self.path / reference.name if self._grouped else holding_fields(self._wanted[reference])

    def remarks(self) -> list[str]:
        """Return what is written otherwise than asked for: formats that hold no fields."""
        changed = sorted(
            {wanted.suffix for one, wanted in self._wanted.items() if self.place(one).suffix != wanted.suffix}
        )
        if not changed or self._grouped:
            return []
        return [f"files of the format {' and '.join(changed)} hold no fields: their predictions are .vtu files"]

    def check_holds(self, reference: Reference, contents: Contents) -> None:
        """Raise DataError where the format cannot hold the mesh of an input."""
        if not self._grouped:
            vtk.check_holds(self.place(reference), contents.mesh)

    def write(
        self, reference: Reference, contents: Contents, points: str, cells: Cells, fields: Mapping[str, np.ndarray]
    ) -> None:
        """Write what the input holds and the fields beside it; `points` names the array of the coordinates."""
        if self._file is not None:
            write_group(self._file.create_group(reference.name), all_arrays(contents) | fields)
        else:
            write_contents(self.place(reference), contents, points, cells, fields)

    def __enter__(self) -> "Output":
        if self._grouped:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = h5py.File(self._temporary(), "w")
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self._file is None:
            return
        written = len(self._file)
        self._file.close()
        if kind is None and written:
            os.replace(self._temporary(), self.path)
        else:
            self._temporary().unlink()

    def _temporary(self) -> Path:
        return self.path.with_name(f".{self.path.stem}.tmp{self.path.suffix}")

    def _check_places(self, references: Sequence[Reference], source: Path) -> None:
        taken = {source, *(one.path for one in references)}
        if source.is_dir():
            # Predictions have the names of the files that they are made from, and would replace them there.
            taken |= {one.path.parent for one in references}
        if self.path.resolve() in {path.resolve() for path in taken}:
            raise UserError(f"--output={self.path} is the input itself; choose another name")
        known: dict[Path, Reference] = {}
        for reference in references:
            other = known.setdefault(self.place(reference), reference)
            if other is not reference:
                raise UserError(
                    f"{other} and {reference} are both predicted to {self.place(reference)}, where they would replace "
                    "each other; rename one, or predict their folders or files one by one"
                )

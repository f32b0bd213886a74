"""Predicted steps of series as what shows them in time: collections for ParaView, and an animation."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data_pipeline.custom.readers import TIME, Reference
from data_pipeline.custom.sample import Contents, Sample
from data_pipeline.custom.writers import write_collection
from data_pipeline.vtk import MESH_SUFFIXES
from experiments.errors import UserError
from experiments.frame_figures import save_animation


@dataclass
class Steps:
    """The steps that were predicted, in order: by series the files and their times; the fields of the first series.

    Fields are kept for an animation, which `animated` wants.
    """

    animated: bool
    files: dict[str, list[tuple[Path, float]]] = field(default_factory=dict)
    frames: list[tuple[np.ndarray, np.ndarray | None, np.ndarray]] = field(default_factory=list)
    shown: str = ""

    def add(
        self, reference: Reference, place: Path, contents: Contents, sample: Sample, prediction: dict[str, np.ndarray]
    ) -> None:
        """Note a predicted sample where it is a step of a series."""
        if not reference.series:
            return
        time = float(np.reshape(contents.arrays[TIME], -1)[0])
        self.files.setdefault(reference.series, []).append((place, time))
        if self.animated and reference.series == next(iter(self.files)):
            self.shown = next(iter(prediction))
            truth = sample.targets.get(self.shown)
            self.frames.append((sample.points, truth, prediction[self.shown]))

    def write_collections(self, folder: Path) -> None:
        """Write a collection for every series of mesh files in a folder, beside these."""
        for name, steps in self.files.items():
            if len(steps) > 1 and all(place.suffix.lower() in MESH_SUFFIXES for place, _ in steps):
                write_collection(folder / f"{name}.pvd", *zip(*steps, strict=True))

    def animate(self, path: Path, axes: Sequence[int]) -> None:
        """Write a GIF of a field of the first series, of a vector its length; raises UserError if the mesh changes."""
        if not self.files:  # none could be predicted, which is said
            return
        name, steps = next(iter(self.files.items()))
        if len({len(points) for points, _, _ in self.frames}) > 1:
            raise UserError(
                f"--figure={path}: the mesh of {name} changes from step to step; look at {name}.pvd instead"
            )
        predicted = np.stack([_shown(values) for _, _, values in self.frames], axis=1)
        known = all(truth is not None and np.isfinite(truth).all() for _, truth, _ in self.frames)
        true = np.stack([_shown(truth) for _, truth, _ in self.frames], axis=1) if known else predicted
        title = name if known else f"{name}, without a truth"
        times = np.array([time for _, time in steps])
        save_animation(path, title, self.frames[0][0][:, list(axes)], true, predicted, times, self.shown)


def _shown(values: np.ndarray) -> np.ndarray:
    return values[:, 0] if values.shape[1] == 1 else np.linalg.norm(values, axis=1)

"""What every loader of fields on points returns: splits of point clouds, a normalizer pair and metadata."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from data_pipeline.custom.integrals import Integral, Weights
from data_pipeline.custom.regions import Regions
from data_pipeline.custom.sample import Fields
from data_pipeline.errors import DataError
from data_pipeline.files import read_source
from data_pipeline.normalizer import Normalizer
from data_pipeline.offset import as_float32, large_offset, without_offset
from data_pipeline.split import Split
from data_pipeline.surface import Surface

# What a data set asks for: one field per sample; the next frame from the last ones; the frame at a given time; the next
# velocity on the nodes of a mesh, some of which have prescribed values; the next state of a part that grows in layers.
KINDS = ("steady", "autoregressive", "time_conditioned", "mesh_series", "layer_series")


@dataclass(frozen=True)
class Source:
    """Where the data came from; copied into config.json and eval.json.

    `kind` is "public files", "own files" or "generated"; `detail` is what SOURCE.json says of generated data, and what
    the loader has to record.
    """

    kind: str
    path: str
    detail: dict = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path, **facts: Any) -> "Source":
        """Return the source of the files in `folder`, with further `facts` to record."""
        detail = read_source(folder)
        return cls("public files" if detail is None else "generated", str(folder), {**(detail or {}), **facts})

    def describe(self) -> str:
        """Return the sentence shown on the console."""
        if self.kind == "generated":
            version = self.detail.get("solver_version")
            solver = self.detail.get("solver", "unknown solver") + ("" if version is None else f" (version {version})")
            return f"generated data (NOT the public set) by {solver}, seed {self.detail.get('seed')}, in {self.path}"
        return f"{self.kind} in {self.path}"


@dataclass(frozen=True)
class Channels:
    """What the channels of steady fields are: coordinates `axes` of the points, then `inputs`; predicted are `targets`.

    Both map names of fields to their numbers of channels. Targets were divided by `scales` [C]. `reads` says which
    arrays of a file with one sample hold these fields; of several such layouts the first whose points are there.
    """

    axes: tuple[int, ...]
    inputs: Mapping[str, int]
    targets: Mapping[str, int]
    scales: Float[np.ndarray, " C"]
    reads: tuple[Fields, ...]

    def split(self, field: Float[np.ndarray, "*S C_out"]) -> dict[str, Float[np.ndarray, "*S C"]]:
        """Return predicted or true fields by name, in the units of the files."""
        parts = np.split(field * self.scales, np.cumsum(list(self.targets.values()))[:-1], axis=-1)
        return dict(zip(self.targets, parts, strict=True))


@dataclass(frozen=True)
class Integrals:
    """Integrals to report of the tests: what they are, and by test and sample the weights of each over the real points.

    Forces are divided by `reference` to give coefficients where that is not 0. Where points move with the steps of a
    series, the weights are those of the first step, and `moving` has the regions of which others are made.
    """

    wanted: tuple[Integral, ...]
    reference: float
    weights: Mapping[str, Sequence[tuple[Weights, ...]]]
    moving: Mapping[str, Sequence[Regions]] = field(default_factory=dict)


@dataclass(frozen=True)
class PDEDataset:
    """Fields on point clouds, to be predicted from the points and features; `kind` is one of `KINDS`.

    `train` trains, `tests["test"]` gives the headline metric, further entries of `tests` are evaluated as well.
    `grid_shape` has the sizes of a structured grid of the training samples, whose points are stored with the last axis
    fastest, and is None for point clouds. `target_name` names the predicted field with its unit, for figures, which
    show channel `shown_channel`; the first `space_dim` channels of `x` are coordinates.

    Frames are at `times` [T]. What else a kind has: autoregressive data sets hold the frames before the first target in
    `fx`, oldest first; mesh series have the first frame as known state in `y`, statistics of velocities in
    `y_normalizer` and of their change from frame to frame in `increment_normalizer`.

    Loaders give arrays in the precision of their files; here they become float32, after `offset` [C] was subtracted
    from the targets (and from frames that are given). It is the mean of channels with a mean far larger than their
    spread, for which float32 has too few digits, and else 0. A loader that gives an offset has subtracted it.
    `spread_fields` names the fields, with their numbers of channels, of targets in units of their spread about their
    mean: errors are then in these units too.

    `bucket_sizes` are numbers of points, ascending, to which training clouds of different sizes may be cut. `channels`
    names the fields and `sample_names` the samples of each split, where they have names. `surface` says which fields
    are pressure and shear stress on the surface of a body. `mesh_of(split, case)` reads the nodes [N, 3] and hexahedra
    [M, 8] of a printed part from its file.
    """

    name: str
    train: Split
    tests: dict[str, Split]
    x_normalizer: Normalizer
    y_normalizer: Normalizer
    source: Source
    target_name: str
    grid_shape: tuple[int, ...] | None = None
    kind: str = "steady"
    space_dim: int = 2
    shown_channel: int = 0
    times: Float[np.ndarray, " T"] | None = None
    increment_normalizer: Normalizer | None = None
    bucket_sizes: tuple[int, ...] = ()
    channels: Channels | None = None
    sample_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    offset: Float[np.ndarray, " C"] | None = None
    spread_fields: Mapping[str, int] = field(default_factory=dict)
    integrals: Integrals | None = None
    surface: Surface | None = None
    mesh_of: Callable[[str, int], tuple[np.ndarray, np.ndarray]] | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise DataError(f"kind={self.kind!r} is not known; choose one of {', '.join(KINDS)}")
        if self.offset is None:
            self._subtract(large_offset(self.train))
        object.__setattr__(self, "train", as_float32(self.train))
        object.__setattr__(self, "tests", {name: as_float32(split) for name, split in self.tests.items()})

    def _subtract(self, offset: Float[np.ndarray, " C"]) -> None:
        object.__setattr__(self, "offset", offset)
        if not offset.any():
            return
        frames_given = self.kind == "autoregressive"
        mean = np.where(offset == 0, self.y_normalizer.mean, 0.0)
        changed = {
            "train": without_offset(self.train, offset, frames_given),
            "tests": {name: without_offset(split, offset, frames_given) for name, split in self.tests.items()},
            "y_normalizer": Normalizer(mean, self.y_normalizer.std),
        }
        for name, value in changed.items():
            object.__setattr__(self, name, value)

    @property
    def metric_offset(self) -> Float[np.ndarray, " C"] | None:
        """The offset as float32, None where there is none: what metrics add to the targets to know their size."""
        return self.offset.astype(np.float32) if self.offset.any() else None

    def case_name(self, split: str, case: int) -> str:
        """Return the name of a sample, or its number where it has none."""
        return self.sample_names[split][case] if split in self.sample_names else f"case {case}"

    def shown_fields(self, field: Float[np.ndarray, "*S C_out"]) -> dict[str, Float[np.ndarray, "*S"]]:
        """Return what figures show of a predicted or true field, by title: every field by name, vectors as lengths."""
        field = field + self.offset
        if self.channels is None:
            return {self.target_name: field[..., self.shown_channel]}
        parts = self.channels.split(field)
        if len(parts) == 1 and self.c_out == 1 and (self.channels.scales == 1).all():
            return {self.target_name: field[..., 0]}
        return dict(_titled(name, part) for name, part in parts.items())

    def shown_inputs(self, x: Float[np.ndarray, "*S C_in"]) -> dict[str, Float[np.ndarray, "*S"]]:
        """Return the inputs beside the coordinates of steady fields, decoded, by title, vectors as lengths."""
        beside = np.asarray(self.x_normalizer.decode(x))[..., self.space_dim :]
        if self.channels is None:
            return {f"input {self.space_dim + number}": beside[..., number] for number in range(beside.shape[-1])}
        parts = np.split(beside, np.cumsum(list(self.channels.inputs.values()))[:-1], axis=-1)
        return dict(_titled(name, part) for name, part in zip(self.channels.inputs, parts, strict=False))

    @property
    def c_in(self) -> int:
        return self.train.x.shape[-1]

    @property
    def c_out(self) -> int:
        return self.train.y.shape[-1]

    @property
    def fun_dim(self) -> int:
        """Channels that a model gets beside `x`: the features, or the present state of a mesh series."""
        if self.kind in ("mesh_series", "layer_series"):
            return self.c_out
        return 0 if self.train.fx is None else self.train.fx.shape[-1]

    @property
    def edge_dim(self) -> int:
        """Features of an edge: its vector, and the mark of its kind; 0 of data without edges."""
        edges = self.train.edges
        return 0 if edges is None else self.space_dim + edges.shape[-1] - 2

    @property
    def has_time(self) -> bool:
        """Whether a model is told a time."""
        return self.train.time is not None or self.kind == "time_conditioned"

    @property
    def max_length(self) -> int:
        return max(split.x.shape[1] for split in self._splits())

    def positions(self, split: Split, case: int | slice = slice(None)) -> Float[np.ndarray, "*S N C"]:
        """Return the point coordinates of one sample [N, C], or of several, in data units, for figures."""
        return np.asarray(self.x_normalizer.decode(split.x[case]))[..., : self.space_dim]

    @property
    def y_decoder(self) -> Normalizer:
        """The normalizer whose `decode` gives targets with their offset."""
        return Normalizer(self.y_normalizer.mean + self.offset, self.y_normalizer.std)

    def in_units(self, targets: Float[np.ndarray, "*S C"]) -> Float[np.ndarray, "*S C"]:
        """Return targets or predictions in the units of the files, as float64."""
        return (targets + self.offset) * (1.0 if self.channels is None else self.channels.scales)

    def input_bounds(self) -> tuple[Float[np.ndarray, " C"], Float[np.ndarray, " C"]]:
        """Return the least and the greatest value of every channel of the training inputs `x`, over real points."""
        x, mask = self.train.x, self.train.mask
        points = x.reshape(-1, self.c_in) if mask is None else x[mask]
        return points.min(0), points.max(0)

    def fingerprint(self) -> str:
        """Return a hash of all arrays, by which an evaluation notices that the data changed."""
        digest = hashlib.sha256()
        for split in self._splits():
            for array in split.arrays().values():
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]

    def _splits(self) -> Iterator[Split]:
        yield self.train
        yield from self.tests.values()


def _titled(name: str, field: Float[np.ndarray, "*S C"]) -> tuple[str, Float[np.ndarray, "*S"]]:
    return (name, field[..., 0]) if field.shape[-1] == 1 else (f"|{name}|", np.linalg.norm(field, axis=-1))

"""What every loader of steady fields returns: splits of point clouds, a normalizer pair and metadata."""

import hashlib
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float

from data_pipeline.errors import DataError
from data_pipeline.normalizer import Normalizer


@dataclass(frozen=True)
class Split:
    """Samples of one split: encoded inputs `x` [S, N, C_in], targets `y` [S, N, C_out] in data units, both float32.

    `mask` [S, N] is true at real points and None when every point is real.
    """

    x: Float[np.ndarray, "S N C_in"]
    y: Float[np.ndarray, "S N C_out"]
    mask: Bool[np.ndarray, "S N"] | None = None

    def __post_init__(self) -> None:
        if self.x.shape[:2] != self.y.shape[:2]:
            raise DataError(f"inputs {self.x.shape} and targets {self.y.shape} differ in samples or points")

    def __len__(self) -> int:
        return self.x.shape[0]


@dataclass(frozen=True)
class Source:
    """Where the data came from; copied into config.json and eval.json.

    `kind` is "public files" or "generated"; `detail` is what SOURCE.json says of generated data.
    """

    kind: str
    path: str
    detail: dict = field(default_factory=dict)

    def describe(self) -> str:
        """Return the sentence shown on the console."""
        if self.kind == "generated":
            solver = f"{self.detail.get('solver', 'unknown solver')} {self.detail.get('solver_version', '')}".strip()
            return f"generated data (NOT the public set) by {solver}, seed {self.detail.get('seed')}, in {self.path}"
        return f"public files in {self.path}"


@dataclass(frozen=True)
class PDEDataset:
    """A steady regression task on point clouds.

    `train` trains, `tests["test"]` gives the headline metric, further entries of `tests` are evaluated as well.
    `max_length` is the largest N; `grid` is (rows, columns) for structured meshes, with n = i · columns + j.
    `target_name` names the predicted field with its unit, for figures.
    """

    name: str
    train: Split
    tests: dict[str, Split]
    x_normalizer: Normalizer
    y_normalizer: Normalizer
    source: Source
    target_name: str
    grid: tuple[int, int] | None = None

    @property
    def c_in(self) -> int:
        return self.train.x.shape[-1]

    @property
    def c_out(self) -> int:
        return self.train.y.shape[-1]

    @property
    def max_length(self) -> int:
        return max(split.x.shape[1] for split in (self.train, *self.tests.values()))

    def positions(self, split: Split) -> Float[np.ndarray, "S N 2"]:
        """Return the point coordinates in data units, for figures."""
        return np.asarray(self.x_normalizer.decode(split.x))[..., :2]

    def fingerprint(self) -> str:
        """Return a hash of all arrays, by which an evaluation notices that the data changed."""
        digest = hashlib.sha256()
        for split in (self.train, *self.tests.values()):
            for array in (split.x, split.y):
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]

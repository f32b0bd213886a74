"""The samples of a user's data set in memory, with the statistics that a cache on disk keeps of them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from data_pipeline.clouds import pad_clouds
from data_pipeline.normalizer import Normalizer
from data_pipeline.split import Split
from data_pipeline.streaming.moments import Moments


class SamplesInMemory:
    """Arrays of all samples, with statistics as a cache keeps them."""

    def __init__(self, samples: list[dict[str, np.ndarray]]) -> None:
        self.samples = samples
        self._moments: dict[tuple[int, str], Moments] = {}

    def moments(self, rows: np.ndarray, name: str) -> Moments:
        return Moments.merge(self._of(int(row), name) for row in rows)

    def _of(self, row: int, name: str) -> Moments:
        if (row, name) not in self._moments:
            self._moments[row, name] = Moments.of(self.samples[row][name])
        return self._moments[row, name]

    def array(self, row: int, name: str) -> Float[np.ndarray, "N C"]:
        return self.samples[row][name]

    def count(self, row: int) -> int:
        return len(self.samples[row]["x"])

    def split(self, rows: np.ndarray, columns: tuple[int, ...], scalings: Sequence[Normalizer], length: int) -> Split:
        """Return some samples as padded arrays."""
        x_scaling, y_scaling = scalings
        clouds = [x_scaling.encode(self.samples[row]["x"][:, columns]) for row in rows]
        x, mask = pad_clouds(clouds, length)
        y, _ = pad_clouds([y_scaling.encode(self.samples[row]["y"]) for row in rows], x.shape[1])
        return Split(x, y, mask)

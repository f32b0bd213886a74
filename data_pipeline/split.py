"""The samples of one split of a data set, as padded arrays."""

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float, Int

from data_pipeline.errors import DataError


@dataclass(frozen=True)
class Split:
    """Samples of one split: encoded inputs `x` [S, N, C_in], targets `y` [S, N, C_out] in data units.

    Targets of problems in time are frames [S, N, T, C_out]. `mask` [S, N] is true at real points, which come first in
    every sample, and None when every point is real. Some problems have function features `fx` [S, N, C_fx] beside the
    coordinates in `x`, or one `time` [S] per sample, both encoded. `free` [S, N] is true at the nodes of a
    mesh whose values are not prescribed. `edges` [S, E, 2] are pairs (source, target) of nodes, by target, padded as by
    `data_pipeline.graphs.pad_edges`; a third column marks kinds of edges. Parts that grow have their number of
    `steps` [S], the step `layer` [S, N] from which a node is there, and the node `below` [S, N] that is nearest to it
    among those before.
    """

    x: Float[np.ndarray, "S N C_in"]
    y: Float[np.ndarray, "S N C_out"] | Float[np.ndarray, "S N T C_out"]
    mask: Bool[np.ndarray, "S N"] | None = None
    fx: Float[np.ndarray, "S N C_fx"] | None = None
    time: Float[np.ndarray, " S"] | None = None
    free: Bool[np.ndarray, "S N"] | None = None
    edges: Int[np.ndarray, "S E _"] | None = None
    layer: Int[np.ndarray, "S N"] | None = None
    below: Int[np.ndarray, "S N"] | None = None
    steps: Int[np.ndarray, " S"] | None = None

    def __post_init__(self) -> None:
        others = (
            ("targets", self.y),
            ("masks", self.mask),
            ("features fx", self.fx),
            ("free nodes", self.free),
            ("layers", self.layer),
            ("nodes below", self.below),
        )
        for name, other in others:
            if other is not None and self.x.shape[:2] != other.shape[:2]:
                raise DataError(f"inputs {self.x.shape} and {name} {other.shape} differ in samples or points")
        if self.time is not None and self.time.shape != self.x.shape[:1]:
            raise DataError(f"inputs {self.x.shape} and times {self.time.shape} differ in samples")
        if self.edges is not None and len(self.edges) != len(self.x):
            raise DataError(f"inputs {self.x.shape} and edges {self.edges.shape} differ in samples")

    def __len__(self) -> int:
        return self.x.shape[0]

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays that are there by name, samples on axis 0 and points, if any, or edges on axis 1."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in named.items() if value is not None}

    def real(self, case: int) -> Bool[np.ndarray, " N"]:
        """Return which points of a sample are real."""
        return np.ones(self.x.shape[1], bool) if self.mask is None else self.mask[case]

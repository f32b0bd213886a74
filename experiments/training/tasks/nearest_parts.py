"""The fields of the training parts that are most like a part: what a model of printed parts must beat."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree

from data_pipeline.dataset import PDEDataset, Split

NEIGHBOURS = 3


def nearest_parts_errors(dataset: PDEDataset, split: Split) -> Iterator[float]:
    """Yield the relative L2 error of each part of a test against the mean field of its nearest training parts.

    Near are parts whose extents, and whose nodes' mean and spread along each axis, are near, in units of the spread of
    these over the training set. A node takes the fields of the nearest nodes of these parts, in bounding boxes of equal
    size.
    """
    described = np.stack([_describe(_places(dataset, dataset.train, case)) for case in range(len(dataset.train))])
    spread = described.std(axis=0)
    spread[spread == 0] = 1.0
    parts = cKDTree(described / spread)
    count = min(NEIGHBOURS, len(described))
    nodes: dict[int, cKDTree] = {}
    for case in range(len(split)):
        places = _places(dataset, split, case)
        chosen = np.atleast_1d(parts.query(_describe(places) / spread, k=count)[1])
        prediction = np.zeros((len(places), dataset.c_out))
        for other in map(int, chosen):
            if other not in nodes:
                nodes[other] = cKDTree(_boxed(_places(dataset, dataset.train, other)))
            nearest = nodes[other].query(_boxed(places))[1]
            prediction += dataset.train.y[other][dataset.train.real(other)][nearest]
        truth = np.asarray(split.y[case][split.real(case)], np.float64)
        size = np.linalg.norm(truth + dataset.offset)
        yield float(np.linalg.norm(prediction / count - truth) / size) if size else np.nan


def _places(dataset: PDEDataset, split: Split, case: int) -> Float[np.ndarray, "N 3"]:
    return dataset.positions(split, case)[split.real(case)]


def _describe(places: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, " _"]:
    """Return extents, and mean from the lower corner and spread of the nodes along each axis."""
    return np.concatenate([np.ptp(places, axis=0), (places - places.min(axis=0)).mean(axis=0), places.std(axis=0)])


def _boxed(places: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    extent = np.ptp(places, axis=0)
    return (places - places.min(axis=0)) / np.where(extent > 0, extent, 1.0)

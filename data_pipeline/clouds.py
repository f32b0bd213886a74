"""Point clouds of different sizes as padded arrays, and the sizes to which groups of them are cut for training."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int


def pad_clouds(
    clouds: Sequence[Float[np.ndarray, "N C"]], length: int = 0
) -> tuple[Float[np.ndarray, "S N C"], Bool[np.ndarray, "S N"] | None]:
    """Return clouds as one float32 array, padded at the end with zeros, and the mask of real points.

    All are padded to the largest or to `length`, whichever is more. The mask is None where nothing was padded.
    """
    counts = np.array([len(cloud) for cloud in clouds])
    length = max(length, int(counts.max()))
    if (counts == length).all():
        return np.stack([np.asarray(cloud, np.float32) for cloud in clouds]), None
    padded = np.zeros((len(clouds), length, *clouds[0].shape[1:]), np.float32)
    for row, cloud in zip(padded, clouds, strict=True):
        row[: len(cloud)] = cloud
    return padded, np.arange(length) < counts[:, None]


def choose_buckets(counts: Int[np.ndarray, " S"], number: int, multiple: int = 128) -> tuple[int, ...]:
    """Return at most `number` ascending sizes, the last of which holds every cloud, with the least padding in all.

    `counts` are the numbers of points of the clouds. Sizes are multiples of `multiple`; where one is enough it is the
    largest count itself.
    """
    sizes = -(-np.sort(counts) // multiple) * multiple
    if number == 1 or counts.min() == counts.max():
        return (int(counts.max()),)
    candidates, repeats = np.unique(sizes, return_counts=True)
    return tuple(int(candidates[i]) for i in _best_ends(candidates, repeats, number))


def _best_ends(sizes: np.ndarray, repeats: np.ndarray, number: int) -> list[int]:
    """Return the indices of the sizes to keep, by dynamic programming over the sorted sizes.

    `cost[k, i]` is the number of points, padding included, of all clouds up to size i in k + 1 buckets ending with i.
    """
    total = np.concatenate([[0], np.cumsum(repeats)])
    count = len(sizes)
    number = min(number, count)
    cost = np.full((number, count), np.inf)
    before = np.zeros((number, count), int)
    cost[0] = sizes * total[1:]
    for k in range(1, number):
        for i in range(k, count):
            options = cost[k - 1, :i] + sizes[i] * (total[i + 1] - total[1 : i + 1])
            before[k, i] = int(np.argmin(options))
            cost[k, i] = options[before[k, i]]
    ends = [count - 1]
    for k in range(int(np.argmin(cost[:, -1])), 0, -1):
        ends.append(int(before[k, ends[-1]]))
    return ends[::-1]

"""Geo-FNO's files of fields on curvilinear grids: coordinates X and Y [n, H, W] and quantities Q [n, C, H, W]."""

from pathlib import Path

import numpy as np

from data_pipeline.dataset import PDEDataset, Source, Split
from data_pipeline.files import read_npy, split_ends
from data_pipeline.normalizer import Normalizer
from data_pipeline.pde.grids import flat

USED = 1200  # the benchmark ignores what the files hold beyond


def load_curvilinear(
    name: str,
    folder: Path,
    files: tuple[str, str, str],
    n_train: int,
    n_test: int,
    *,
    channels: int,
    channel: int,
    target_name: str,
    normalize_x: bool,
) -> PDEDataset:
    """Load X, Y and channel `channel` of Q, which has `channels` of them, from `files` in `folder`.

    Of the first 1200 samples the first `n_train` train and the last `n_test` test; raises DataError.
    """
    head = slice(0, USED)
    x = read_npy(folder / files[0], (None, None, None), (head,))
    total, height, width = x.shape
    y = read_npy(folder / files[1], (None, height, width), (head,))
    field = read_npy(folder / files[2], (None, channels, height, width), (head, channel))
    train, test = split_ends(min(total, len(y), len(field)), n_train, n_test, str(folder))
    points, target = np.concatenate([flat(x), flat(y)], axis=-1), flat(field)
    normalizer = Normalizer.fit(points[train]) if normalize_x else Normalizer.identity(2)

    def split(samples: slice) -> Split:
        return Split(np.ascontiguousarray(normalizer.encode(points[samples])), target[samples])

    return PDEDataset(
        name=name,
        train=split(train),
        tests={"test": split(test)},
        x_normalizer=normalizer,
        y_normalizer=Normalizer.fit(target[train]),
        source=Source.of(folder),
        target_name=target_name,
        grid_shape=(height, width),
    )

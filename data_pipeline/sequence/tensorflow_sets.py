"""The one place that imports tensorflow-datasets."""

from pathlib import Path

import numpy as np

from data_pipeline.errors import DataError


def read_tensorflow_set(name: str, split: str, data_dir: Path) -> dict[str, np.ndarray]:
    """Return all columns of a split that tensorflow-datasets has prepared below `data_dir`; downloads nothing."""
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise DataError(
            f"reading {name} needs tensorflow-datasets; run `pip install 'flare_jax[tfds]' tensorflow`"
        ) from error
    return tfds.as_numpy(tfds.load(name, split=split, data_dir=str(data_dir), batch_size=-1, download=False))

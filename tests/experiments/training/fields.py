"""Small data sets of every kind, as the loaders return them, without files."""

import numpy as np

from data_pipeline.dataset import PDEDataset, Source, Split
from data_pipeline.normalizer import Normalizer

SOURCE = Source("generated", "here")


def make(name, train, test, kind, c_out=1, **more):
    """Return a data set whose fields are not normalised unless `more` says so."""
    defaults = {
        "x_normalizer": Normalizer.identity(train.x.shape[-1]),
        "y_normalizer": Normalizer.identity(c_out),
        "source": SOURCE,
        "target_name": "field",
    }
    return PDEDataset(name=name, train=train, tests={"test": test}, kind=kind, **{**defaults, **more})


def autoregressive(samples=4, points=5, history=3, steps=4, channels=1, **more):
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(samples, points, history + steps, channels)).astype(np.float32)
    x = rng.random((samples, points, 2)).astype(np.float32)
    given = frames[:, :, :history].reshape(samples, points, -1)
    split = Split(x, frames[:, :, history:], fx=given)
    times = np.arange(steps, dtype=np.float32)
    return make("toy", split, split, "autoregressive", channels, times=times, **more)


def time_conditioned(samples=4, points=5, times=4, channels=2):
    rng = np.random.default_rng(0)
    y = rng.normal(size=(samples, points, times, channels)).astype(np.float32)
    x, fx = (rng.random((samples, points, width)).astype(np.float32) for width in (2, 1))
    split = Split(x, y, fx=fx)
    return make("toy", split, split, "time_conditioned", channels, times=np.linspace(0, 1, times, dtype=np.float32))


def mesh_series(samples=3, points=6, frames=5, padding=0, fill=0.0):
    """Velocities of which points 0 and 1 are prescribed; padded points hold `fill`."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=(samples, points, frames, 2)).astype(np.float32)
    x = rng.random((samples, points, 3)).astype(np.float32)
    free = np.broadcast_to(np.arange(points) > 1, (samples, points)).copy()

    def padded(array, value):
        return np.pad(array, [(0, 0), (0, padding)] + [(0, 0)] * (array.ndim - 2), constant_values=value)

    mask = None if not padding else padded(np.ones((samples, points), bool), False)
    split = Split(padded(x, fill), padded(y, fill), mask, free=padded(free, False))
    return make(
        "toy", split, split, "mesh_series", 2,
        times=np.arange(frames, dtype=np.float32),
        y_normalizer=Normalizer(np.float32([1.0, -1.0]), np.float32([2.0, 0.5])),
        increment_normalizer=Normalizer(np.float32([0.1, 0.2]), np.float32([0.3, 0.4])),
    )  # fmt: skip


def clouds(counts=(3, 9, 4, 8, 2, 9), bucket_sizes=(4, 10), length=10):
    """A steady set of clouds with these numbers of points; y is the sum of the coordinates."""
    rng = np.random.default_rng(0)
    mask = np.arange(length) < np.array(counts)[:, None]
    x = np.where(mask[..., None], rng.random((len(counts), length, 2)), 0).astype(np.float32)
    split = Split(x, x.sum(-1, keepdims=True), mask)
    return make("toy", split, split, "steady", bucket_sizes=bucket_sizes)

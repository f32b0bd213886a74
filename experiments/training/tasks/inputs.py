"""What a model is given: points, features beside them, a time, a key; and the arrays that a task trains on."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int

from data_pipeline.dataset import PDEDataset
from data_pipeline.streaming.rows import is_stored, pad_stored
from experiments.training.packing import Params
from flare_jax.layers.segment import edge_features

# What data sets call their samples that validate.
VALIDATION = ("val", "valid")


@dataclass(frozen=True)
class ModelCall:
    """`apply(params, x, mask, ...)` of a model whose call takes the further arguments `takes`.

    Features and times go to the arguments `fx` and `time` of models that have them, and become channels behind those of
    `x` for all others (a time as a constant channel, as for FLARE). Edges go to models that take them, with their
    vectors in the first `space_dim` channels of `x`; to all others a mesh is its points.
    """

    apply: Callable[..., Array]
    takes: Collection[str] = ()
    space_dim: int = 0

    def __call__(
        self,
        params: Params,
        x: Float[Array, "B N C"],
        mask: Bool[Array, "B N"] | None,
        *,
        features: Float[Array, "B N C_fx"] | None = None,
        time: Float[Array, " B"] | None = None,
        edges: Int[Array, "B E _"] | None = None,
        key: Array | None = None,
        points_per_piece: int | None = None,
    ) -> Float[Array, "B N C_out"]:
        """Return the model's output in float32."""
        x, extra = self._arguments(x, mask, features, time, edges, key)
        if points_per_piece is not None:
            extra["points_per_piece"] = points_per_piece
        return self.apply(params, x, mask, **extra).astype(jnp.float32)

    def statistics(
        self,
        params: Params,
        x: Float[Array, "B N C"],
        mask: Bool[Array, "B N"] | None,
        *,
        features: Float[Array, "B N C_fx"] | None = None,
        time: Float[Array, " B"] | None = None,
        key: Array | None = None,
    ) -> Mapping[str, Any]:
        """Return what the mixers of a model that takes `return_statistics` say of themselves."""
        x, extra = self._arguments(x, mask, features, time, None, key)
        return self.apply(params, x, mask, **extra, return_statistics=True)[1]

    def _arguments(
        self,
        x: Array,
        mask: Array | None,
        features: Array | None,
        time: Array | None,
        edges: Array | None,
        key: Array | None,
    ) -> tuple[Array, dict[str, Any]]:
        """Return the points, with what becomes channels of them, and the further arguments of the model."""
        extra: dict[str, Any] = {"key": key} if "key" in self.takes else {}
        if "edges" in self.takes:
            extra |= {"edges": edges, "edge_attr": edge_features(x, edges, self.space_dim, mask)}
        channels = [x]
        if features is not None and "fx" in self.takes:
            extra["fx"] = features
        elif features is not None:
            channels.append(features)
        if time is not None and "time" in self.takes:
            extra["time"] = time
        elif time is not None:
            channels.append(jnp.broadcast_to(time[:, None, None], (*x.shape[:2], 1)))
        return x if len(channels) == 1 else jnp.concatenate(channels, axis=-1), extra


def input_channels(dataset: PDEDataset, takes: Collection[str]) -> int:
    """Return the number of channels of `x` that a model with the arguments `takes` gets."""
    beside = (dataset.fun_dim if "fx" not in takes else 0) + (dataset.has_time and "time" not in takes)
    return dataset.c_in + beside


def pad_points(arrays: Mapping[str, np.ndarray], multiple: int) -> dict[str, np.ndarray]:
    """Pad axis 1 to a multiple of `multiple` with masked points, so that it can be split over devices."""
    if is_stored(arrays):
        return pad_stored(arrays, multiple)
    samples, points = arrays["x"].shape[:2]
    extra = -points % multiple
    if not extra:
        return dict(arrays)
    masked = {"mask": np.ones((samples, points), bool), **arrays}
    widths = {name: [(0, 0), (0, extra)] + [(0, 0)] * (value.ndim - 2) for name, value in masked.items()}
    return {
        name: value if name == "edges" else np.pad(value, widths[name][: value.ndim]) for name, value in masked.items()
    }


def task_arrays(dataset: PDEDataset, points_multiple: int) -> dict[str, object]:
    """Return the fields of a task that come from the data set: arrays, buckets, sizes and the split that selects."""
    train = dataset.train
    masked = len(dataset.bucket_sizes) > 1 and train.mask is not None
    sizes = [-(-size // points_multiple) * points_multiple for size in dataset.bucket_sizes] if masked else []
    points = train.x.shape[1] if train.mask is None else round(float(train.mask.sum(axis=1).mean()))
    return {
        "train": pad_points(train.arrays(), points_multiple),
        "tests": {name: pad_points(split.arrays(), points_multiple) for name, split in dataset.tests.items()},
        "points_per_sample": points,
        "bucket_sizes": tuple(dict.fromkeys(sizes)),
        "selection": next((name for name in VALIDATION if name in dataset.tests), "test"),
    }

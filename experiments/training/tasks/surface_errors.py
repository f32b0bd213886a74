"""Errors of pressure and wall shear stress on surfaces, computed on the device, one number per sample.

`experiments.training.surface_metrics` gives the same of whole fields on the host, in float64.
"""

from functools import partial

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int

from data_pipeline.dataset import PDEDataset
from experiments.training import losses
from experiments.training.losses import Field, Mask
from experiments.training.tasks.errors import Error, columns_of, of_channels

PerChannel = Float[np.ndarray, " C"]


def surface_errors(dataset: PDEDataset) -> dict[str, Error]:
    """Return the errors (prediction, target, mask) -> [B] of the fields that `dataset.surface` names; none without it.

    Relative L2 errors in the units of the files, of the pressure, of the length of the shear stress, of its vector, and
    of both fields together; `normalized_mse` is the mean squared error with every channel of them divided by its own
    standard deviation.
    """
    if dataset.surface is None:
        return {}
    columns = columns_of(dataset)
    pressure, shear = (np.arange(dataset.c_out)[columns[name]] for name in dataset.surface)
    both = np.concatenate([pressure, shear])
    deviations = dataset.y_normalizer.std[both]
    return {
        "normalized_mse": of_channels(both, partial(_mean_squared, deviations=deviations)),
        **{
            name: of_channels(channels, partial(error, **_unit(dataset, channels)))
            for name, channels, error in (
                ("full_rel_l2", both, _relative),
                ("pressure_rel_l2", pressure, _relative),
                ("wall_shear_rel_l2", shear, _relative_length),
                ("wall_shear_vector_rel_l2", shear, _relative),
            )
        },
    }


def _unit(dataset: PDEDataset, channels: Int[np.ndarray, " C"]) -> dict[str, PerChannel]:
    """Return by what channels are multiplied to be in one unit, that of the largest scale, and the offset in it."""
    scales = dataset.channels.scales[channels].astype(np.float64)
    factors = scales / scales.max()
    return {"factors": factors.astype(np.float32), "offset": (factors * dataset.offset[channels]).astype(np.float32)}


def _relative(prediction: Field, target: Field, mask: Mask, factors: PerChannel, offset: PerChannel) -> Array:
    return losses.relative_l2(factors * prediction, factors * target, mask, offset=offset)


def _relative_length(prediction: Field, target: Field, mask: Mask, factors: PerChannel, offset: PerChannel) -> Array:
    lengths = (jnp.linalg.norm(factors * field + offset, axis=-1, keepdims=True) for field in (prediction, target))
    return losses.relative_l2(*lengths, mask)


def _mean_squared(prediction: Field, target: Field, mask: Mask, deviations: PerChannel) -> Array:
    factors = (1 / deviations).astype(np.float32)
    return losses.mean_squared_error(factors * prediction, factors * target, mask)

"""Energy of fields on structured grids by wave number: what a surrogate smooths away is missing at the large ones."""

import numpy as np
from jaxtyping import Float


def radial_energy(fields: Float[np.ndarray, "B *N C"]) -> Float[np.ndarray, "B K C"]:
    """Return the energy of the Fourier modes of fields on a grid, summed over shells of the wave number |k|.

    Shell K holds the modes with K − ½ <= |k| < K + ½, k counted in periods along each axis of the grid; the sum over
    all shells is the mean square of the field (Parseval). Grids are taken as periodic: jumps between opposite sides of
    fields that are not show up at all wave numbers, of truth and prediction alike. Raises ValueError without an axis of
    the grid.
    """
    shape = fields.shape[1:-1]
    if not shape:
        raise ValueError(f"fields have the shape {fields.shape}, without a grid; pass arrays [B, *grid, C]")
    axes = tuple(range(1, fields.ndim - 1))
    modes = np.fft.fftn(fields, axes=axes) / np.prod(shape)
    numbers = np.meshgrid(*(np.fft.fftfreq(size, 1 / size) for size in shape), indexing="ij")
    # Halves go up, where rint would send them to the even number.
    shells = np.floor(np.sqrt(sum(np.square(one) for one in numbers)) + 0.5).astype(int).ravel()
    energy = np.moveaxis(np.square(np.abs(modes)).reshape(len(fields), -1, fields.shape[-1]), 1, 0)
    result = np.zeros((shells.max() + 1, *energy.shape[1:]))
    np.add.at(result, shells, energy)
    return np.moveaxis(result, 0, 1)


def whole_shells(grid: tuple[int, ...]) -> int:
    """Return how many of the shells of a grid lie inside of it; of the others only corners are there."""
    return min(grid) // 2 + 1

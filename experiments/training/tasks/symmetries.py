"""The eight symmetries of the square in x and y: a printed part that is turned or mirrored warps turned or mirrored.

They leave displacement along z, von Mises stress and temperature as they are, and change places, edges and distances.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int

from data_pipeline.additive.distance import COLUMNS

SYMMETRIES = 8
# Columns behind the places, where there are some: the distance features without their flag.
_DISTANCES = COLUMNS[1:]


def turned(x: Float[Array, "B N C"], number: Int[Array, " B"]) -> Float[Array, "B N C"]:
    """Return the inputs of parts after symmetry `number` (0 to 7) of each: places and, if there, distance features."""
    order, sign = (jnp.asarray(table)[number][:, None] for table in _tables(x.shape[-1]))
    return jnp.take_along_axis(x, jnp.broadcast_to(order, x.shape), axis=-1) * sign


def random_symmetries(key: Array, samples: int) -> Int[Array, " B"]:
    """Return a random symmetry for each sample."""
    return jax.random.randint(key, (samples,), 0, SYMMETRIES)


def _tables(channels: int) -> tuple[Int[np.ndarray, "S C"], Float[np.ndarray, "S C"]]:
    """Return which channel each channel becomes, and its sign, for every symmetry."""
    names = ["x", "y", "z", *_DISTANCES][:channels]
    orders, signs = [], []
    for number in range(SYMMETRIES):
        swaps, flips = number >= 4, {"x": bool(number & 1), "y": bool(number & 2), "z": False}
        order, sign = [], []
        for name in names:
            prefix, axis = (name[:-1], name[-1]) if name[-1] in "xyz" else (name, "")
            source = {"x": "y", "y": "x"}.get(axis, axis) if swaps else axis
            flipped = flips.get(axis, False)
            if prefix in ("minus_", "plus_") and flipped:
                prefix = "plus_" if prefix == "minus_" else "minus_"
            order.append(names.index(prefix + source))
            sign.append(-1.0 if flipped and prefix in ("", "to_") else 1.0)
        orders.append(order)
        signs.append(sign)
    return np.array(orders, np.int32), np.array(signs, np.float32)

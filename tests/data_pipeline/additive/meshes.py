"""Small meshes of boxes for the tests of additive manufacturing."""

import numpy as np

from data_pipeline.additive.lattice import CORNERS


def boxes(low, size):
    """Return nodes and elements of boxes with these lower corners [M, 3] and sizes [M, 3] or [3]."""
    low = np.asarray(low, float)
    size = np.broadcast_to(np.asarray(size, float), low.shape)
    corners = np.round(low[:, None] + CORNERS * size[:, None], 9).reshape(-1, 3)
    points, number = np.unique(corners, axis=0, return_inverse=True)
    return points, number.reshape(-1, 8)


def block(a, b, c, size=(1.0, 1.0, 1.0)):
    """Return nodes and elements of a block of a x b x c boxes."""
    cells = np.stack(np.meshgrid(*map(np.arange, (a, b, c)), indexing="ij"), axis=-1).reshape(-1, 3)
    return boxes(cells * np.array(size), size)


def coarse_beside_fine():
    """Return a box of size 2 at the origin and a layer of four boxes of size 1 on its side x = 2."""
    fine = [(2, y, z) for y in (0, 1) for z in (0, 1)]
    return boxes([(0, 0, 0), *fine], [(2, 2, 2), *[(1, 1, 1)] * 4])

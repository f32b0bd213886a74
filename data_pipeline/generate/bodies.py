"""Artificial bodies in an artificial wind, for data that have the shape of car aerodynamics and none of its physics.

The pressure is a formula in the direction of the surface: stagnation at the front, suction along the sides and on the
roof, an incomplete recovery at the back. The wall shear stress follows the wind along the surface.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

# Share of the dynamic pressure recovered behind the body, additional suction below it, friction coefficient.
_RECOVERY, _GROUND, _FRICTION = 0.15, 0.15, 0.003


class Superellipsoid(NamedTuple):
    """The body |(x - cx) / sx|^e + |(y - cy) / sy|^e + |(z - cz) / sz|^e <= 1."""

    centre: Float64[np.ndarray, "3"]
    sizes: Float64[np.ndarray, "3"]
    exponent: float

    def level(self, points: Float64[np.ndarray, "*N 3"]) -> Float64[np.ndarray, "*N"]:
        """Return the left side of the inequality."""
        return (np.abs((points - self.centre) / self.sizes) ** self.exponent).sum(axis=-1)

    def surface(self, directions: Float64[np.ndarray, "*N 3"]) -> Float64[np.ndarray, "*N 3"]:
        """Return the surface points in the given directions from the centre, which count in units of `sizes`."""
        distance = (np.abs(directions) ** self.exponent).sum(axis=-1, keepdims=True) ** (-1.0 / self.exponent)
        return self.centre + self.sizes * directions * distance

    def normals(self, points: Float64[np.ndarray, "*N 3"]) -> Float64[np.ndarray, "*N 3"]:
        """Return the outer unit normals at surface points."""
        offset = (points - self.centre) / self.sizes
        gradient = np.sign(offset) * np.abs(offset) ** (self.exponent - 1.0) / self.sizes
        return gradient / np.linalg.norm(gradient, axis=-1, keepdims=True)


def pressure_coefficient(
    normals: Float64[np.ndarray, "*N 3"], wind: int, up: int, speed_up: float
) -> Float64[np.ndarray, "*N"]:
    """Return the pressure in units of the dynamic pressure.

    Arguments: outer unit `normals`; axes along which the `wind` blows and that point `up`; `speed_up`, the square of
    the greatest speed along the surface relative to the wind.
    """
    against = normals[..., wind]
    recovered = np.where(against < 0.0, 1.0, _RECOVERY) * against**2
    return 1.0 - speed_up * (1.0 - recovered) - _GROUND * np.maximum(-normals[..., up], 0.0)


def wall_shear(normals: Float64[np.ndarray, "*N 3"], wind: int) -> Float64[np.ndarray, "*N 3"]:
    """Return the wall shear stress in units of the dynamic pressure: along the wind's part within the surface."""
    along = np.zeros(3)
    along[wind] = 1.0
    tangent = along - normals[..., wind, None] * normals
    return _FRICTION * np.linalg.norm(tangent, axis=-1, keepdims=True) * tangent

"""Plane incompressible flow on the unit torus in vorticity form: pseudo-spectral in space, Runge-Kutta in time.

    w_t + div(u w) = nu Laplacian w + f,   -Laplacian psi = w,   u = (psi_y, -psi_x)

Fourier modes up to two thirds of those on the grid are kept, which makes the quadratic term free of aliasing. Diffusion
is integrated exactly by an integrating factor, the rest by the classical fourth-order Runge-Kutta method. Without
forcing and viscosity the scheme in space conserves mean, energy and enstrophy.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def band(side: int) -> int:
    """Return the largest wave number that is kept on side × side points: below a third of the points."""
    return (side - 1) // 3


@partial(jax.jit, static_argnames=("steps", "records"))
def simulate(
    vorticity: Float[Array, "B N N"],
    forcing: Float[Array, "N N"],
    viscosity: float | Float[Array, ""],
    steps: int,
    records: int,
) -> Float[Array, "B T N N"]:
    """Return the vorticity at the times 1, 2, ..., `records`, first spatial axis x.

    Arguments: `vorticity` at time 0 and `forcing`, at the points i / N; `viscosity` in units of the box and of time;
    `steps`, time steps per unit of time. The arithmetic has the dtype of `vorticity`.
    """
    side, dtype = vorticity.shape[-1], vorticity.dtype
    kx, ky, keep = _waves(side, dtype)
    squared = kx**2 + ky**2
    inverse = jnp.where(squared > 0.0, 1.0 / jnp.where(squared > 0.0, squared, 1.0), 0.0).astype(dtype)
    source = jnp.fft.rfft2(forcing.astype(dtype)) * keep
    step = jnp.asarray(1.0 / steps, dtype)
    half = jnp.exp(-0.5 * step * viscosity * squared).astype(dtype)

    def tendency(spectrum: jax.Array) -> jax.Array:
        stream = spectrum * inverse
        fields = jnp.fft.irfft2(jnp.stack([1j * ky * stream, -1j * kx * stream, spectrum]), s=(side, side))
        along_x, along_y = jnp.fft.rfft2(fields[:2] * fields[2])
        return source - keep * 1j * (kx * along_x + ky * along_y)

    def advance(_: jax.Array, spectrum: jax.Array) -> jax.Array:
        first = tendency(spectrum)
        second = tendency(half * (spectrum + 0.5 * step * first))
        third = tendency(half * spectrum + 0.5 * step * second)
        fourth = tendency(half * (half * spectrum + step * third))
        slopes = half * (half * first + 2.0 * (second + third)) + fourth
        return half * half * spectrum + step / 6.0 * slopes

    def record(spectrum: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        spectrum = jax.lax.fori_loop(0, steps, advance, spectrum)
        return spectrum, jnp.fft.irfft2(spectrum, s=(side, side))

    _, frames = jax.lax.scan(record, jnp.fft.rfft2(vorticity) * keep, length=records)
    return jnp.swapaxes(frames, 0, 1)


def _waves(side: int, dtype: np.dtype | type) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the angular wave numbers along x and y of a real transform, and 1 where they are kept, else 0."""
    x, y = np.fft.fftfreq(side, 1.0 / side), np.fft.rfftfreq(side, 1.0 / side)
    keep = (np.abs(x)[:, None] <= band(side)) & (y <= band(side))
    return (2.0 * np.pi * x[:, None]).astype(dtype), (2.0 * np.pi * y).astype(dtype), keep.astype(dtype)

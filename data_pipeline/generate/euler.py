"""Steady compressible flow without viscosity on a C-grid: finite volumes, marched to the steady state in JAX.

Second order by limited linear reconstruction of density, velocity and pressure (van Albada), HLLC fluxes, five
Runge-Kutta stages per iteration with the local time step. States are arrays of rho, u, v, p, in units where
rho = p = 1 far away; gamma is 1.4.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

GAMMA = 1.4
Scalar = float | Float[Array, ""]
_STAGES = (0.0695, 0.1602, 0.2898, 0.5060, 1.0)
_COURANT = 1.6
# Cells outwards of the smallest grid that is first solved on half as many.
_SMALLEST_PAIRED = 20
# Differences between cells below the root of this are not limited: noise in smooth flow would keep the march going.
_SMOOTH = 1e-5


class Geometry(NamedTuple):
    """A C-grid's faces and cells: normals times length, areas, unit normals of the wall faces, wall or wake cut."""

    along: Float[Array, "2 N M-1"]
    outwards: Float[Array, "2 N-1 M"]
    area: Float[Array, "N-1 M-1"]
    wall_normal: Float[Array, "2 N-1"]
    wall: Bool[Array, "N-1"]


def geometry(nodes: Float[Array, "N M 2"]) -> Geometry:
    """Return the geometry of a grid; `wall` marks the cells on the section, by the grid's proportions 5 : 12 : 5."""
    across = nodes[:, 1:] - nodes[:, :-1]
    beside = nodes[1:] - nodes[:-1]
    along = jnp.stack([across[..., 1], -across[..., 0]])
    outwards = jnp.stack([-beside[..., 1], beside[..., 0]])
    one, other = nodes[1:, 1:] - nodes[:-1, :-1], nodes[:-1, 1:] - nodes[1:, :-1]
    area = 0.5 * (one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0])
    cells = nodes.shape[1] - 1
    index = jnp.arange(nodes.shape[0] - 1)
    wall = (index >= cells) & (index < nodes.shape[0] - 1 - cells)
    first = outwards[..., 0]
    return Geometry(along, outwards, area, first / jnp.linalg.norm(first, axis=0), wall)


def free_stream(mach: Scalar) -> Float[Array, "4"]:
    """Return the state far away, flowing along x."""
    return jnp.array([1.0, mach * GAMMA**0.5, 0.0, 1.0])


@partial(jax.jit, static_argnames=("iterations",))
def solve(
    nodes: Float[Array, "B N M 2"], mach: Scalar, tolerance: Scalar, iterations: int
) -> tuple[Float[Array, "B 4 N-1 M-1"], Float[Array, "B"], Int[Array, "B"]]:
    """Return the states of the cells, the last changes and the numbers of iterations on the finest grid.

    The march begins on the grid without every second node, where it is cheap, if the cells can be paired. It stops for
    each grid by itself once the density changes by less than `tolerance` (root mean square per step of Courant number
    1), or after `iterations`.
    """
    return jax.vmap(lambda grid: _solve_one(grid, mach, tolerance, iterations))(nodes)


def _solve_one(
    nodes: jax.Array, mach: Scalar, tolerance: Scalar, iterations: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    far = free_stream(mach).astype(nodes.dtype)
    coarse = nodes[::2, ::2]
    cells = nodes.shape[1] - 1
    if cells % 2 == 0 and cells >= _SMALLEST_PAIRED:
        start = jnp.broadcast_to(far[:, None, None], (4, coarse.shape[0] - 1, coarse.shape[1] - 1))
        first, _, _ = _march(start, geometry(coarse), far, tolerance, iterations)
        start = jnp.repeat(jnp.repeat(first, 2, axis=1), 2, axis=2)
    else:
        start = jnp.broadcast_to(far[:, None, None], (4, nodes.shape[0] - 1, cells))
    return _march(start, geometry(nodes), far, tolerance, iterations)


def _march(
    start: jax.Array, geo: Geometry, far: jax.Array, tolerance: Scalar, iterations: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    def unfinished(carry: tuple) -> jax.Array:
        _, norm, count = carry
        return (count < iterations) & ~(norm <= tolerance)

    def iterate(carry: tuple) -> tuple:
        begin, _, count = carry
        scale = time_step(primitive(begin), geo) / geo.area

        def stage(state: jax.Array, share: jax.Array) -> tuple[jax.Array, jax.Array]:
            change = scale * residual(primitive(state), geo, far)
            return _admissible(begin - share * _COURANT * change, begin), jnp.sqrt(jnp.mean(change[0] ** 2))

        state, norms = jax.lax.scan(stage, begin, jnp.asarray(_STAGES, start.dtype))
        return state, norms[0], count + 1

    carry = (conservative(start), jnp.full((), jnp.inf, start.dtype), 0)
    state, norm, count = jax.lax.while_loop(unfinished, iterate, carry)
    return primitive(state), norm, count


def residual(state: Float[Array, "4 N M"], geo: Geometry, far: Float[Array, "4"]) -> Float[Array, "4 N M"]:
    """Return the net flux of mass, momentum and energy out of every cell."""
    flux = _hllc(*_reconstructed(_beyond_ends(state)), geo.along)
    below, above = _reconstructed(jnp.swapaxes(_beyond_sides(state, geo, far), 1, 2))
    # At the wall the state is extrapolated from the two cells above, for the pressure changes across curved
    # streamlines, and meets its mirror, which lets nothing through.
    below = below.at[:, 0].set(jnp.where(geo.wall, _mirrored(above[:, 0], geo.wall_normal), below[:, 0]))
    outward = _hllc(below, above, jnp.swapaxes(geo.outwards, 1, 2))
    return jnp.diff(flux, axis=1) + jnp.swapaxes(jnp.diff(outward, axis=1), 1, 2)


def time_step(state: Float[Array, "4 N M"], geo: Geometry) -> Float[Array, "N M"]:
    """Return the local time step of Courant number 1."""
    rho, u, v, p = state
    sound = jnp.sqrt(GAMMA * p / rho)
    along = 0.5 * (geo.along[:, 1:] + geo.along[:, :-1])
    outwards = 0.5 * (geo.outwards[:, :, 1:] + geo.outwards[:, :, :-1])
    speed = 0.0
    for normal in (along, outwards):
        speed += jnp.abs(u * normal[0] + v * normal[1]) + sound * jnp.linalg.norm(normal, axis=0)
    return geo.area / speed


def primitive(state: Float[Array, "4 *N"]) -> Float[Array, "4 *N"]:
    """Return rho, u, v, p from the densities of mass, momentum and energy."""
    rho, momentum_x, momentum_y, energy = state
    u, v = momentum_x / rho, momentum_y / rho
    return jnp.stack([rho, u, v, (GAMMA - 1.0) * (energy - 0.5 * rho * (u**2 + v**2))])


def conservative(state: Float[Array, "4 *N"]) -> Float[Array, "4 *N"]:
    """Return the densities of mass, momentum and energy from rho, u, v, p."""
    rho, u, v, p = state
    return jnp.stack([rho, rho * u, rho * v, p / (GAMMA - 1.0) + 0.5 * rho * (u**2 + v**2)])


def _admissible(state: jax.Array, before: jax.Array) -> jax.Array:
    """Return `state`, in cells where density or pressure would fall below a fifth of the old ones `before`."""
    new, old = primitive(state), primitive(before)
    good = (new[0] > 0.2 * old[0]) & (new[3] > 0.2 * old[3])
    return jnp.where(good, state, before)


def _beyond_ends(state: jax.Array) -> jax.Array:
    """Add two cells at both ends of the C, where the flow leaves at the pressure of the surroundings."""
    ends = [jnp.stack([*end[:3], jnp.ones_like(end[3])])[:, None] for end in (state[:, 0], state[:, -1])]
    return jnp.concatenate([ends[0], ends[0], state, ends[1], ends[1]], axis=1)


def _beyond_sides(state: jax.Array, geo: Geometry, far: jax.Array) -> jax.Array:
    """Add two rows of cells inside, extrapolated into the wall or from across the wake cut, and two outside."""
    first, second = state[:, :, 0], state[:, :, 1]
    within = jnp.stack([2.0 * first - second] * 2, axis=2)
    inside = jnp.where(geo.wall[:, None], within, state[:, ::-1, 1::-1])
    outside = jnp.broadcast_to(far[:, None, None], (4, state.shape[1], 2))
    return jnp.concatenate([inside, state, outside], axis=2)


def _mirrored(state: jax.Array, normal: jax.Array) -> jax.Array:
    """Return states with the velocity reversed along unit normals."""
    rho, u, v, p = state
    across = 2.0 * (u * normal[0] + v * normal[1])
    return jnp.stack([rho, u - across * normal[0], v - across * normal[1], p])


def _reconstructed(padded: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the states before and after the faces between cells along axis 1, two cells being added at both ends."""
    steps = jnp.diff(padded, axis=1)
    before, after = steps[:, :-1], steps[:, 1:]
    squares = before**2 + _SMOOTH, after**2 + _SMOOTH
    slope = (before * squares[1] + after * squares[0]) / (squares[0] + squares[1])
    return padded[:, 1:-2] + 0.5 * slope[:, :-1], padded[:, 2:-1] - 0.5 * slope[:, 1:]


def _hllc(left: jax.Array, right: jax.Array, normals: jax.Array) -> jax.Array:
    """Return the HLLC flux times the length of the faces, with Einfeldt's bounds of the wave speeds."""
    length = jnp.linalg.norm(normals, axis=0)
    nx, ny = normals / length
    speeds, sounds, energies = [], [], []
    for rho, u, v, p in (left, right):
        speeds.append(u * nx + v * ny)
        sounds.append(jnp.sqrt(GAMMA * p / rho))
        energies.append(p / (GAMMA - 1.0) + 0.5 * rho * (u**2 + v**2))
    weights = [jnp.sqrt(left[0]), jnp.sqrt(right[0])]
    total = weights[0] + weights[1]
    mean = (weights[0] * speeds[0] + weights[1] * speeds[1]) / total
    spread = 0.5 * weights[0] * weights[1] / total**2 * (speeds[1] - speeds[0]) ** 2
    sound = jnp.sqrt((weights[0] * sounds[0] ** 2 + weights[1] * sounds[1] ** 2) / total + spread)
    slow = jnp.minimum(speeds[0] - sounds[0], mean - sound)
    fast = jnp.maximum(speeds[1] + sounds[1], mean + sound)
    mass_left, mass_right = left[0] * (slow - speeds[0]), right[0] * (fast - speeds[1])
    middle = (right[3] - left[3] + mass_left * speeds[0] - mass_right * speeds[1]) / (mass_left - mass_right)
    fluxes = []
    for side, speed, energy, outer in ((left, speeds[0], energies[0], slow), (right, speeds[1], energies[1], fast)):
        rho, u, v, p = side
        flux = jnp.stack([rho * speed, rho * u * speed + p * nx, rho * v * speed + p * ny, (energy + p) * speed])
        density = rho * (outer - speed) / (outer - middle)
        gain = middle - speed
        work = energy / rho + gain * (middle + p / (rho * (outer - speed)))
        star = density * jnp.stack([jnp.ones_like(rho), u + gain * nx, v + gain * ny, work])
        fluxes += [flux, flux + outer * (star - jnp.stack([rho, rho * u, rho * v, energy]))]
    upwind_left = jnp.where(slow >= 0.0, fluxes[0], fluxes[1])
    upwind_right = jnp.where(fast <= 0.0, fluxes[2], fluxes[3])
    return length * jnp.where(middle >= 0.0, upwind_left, upwind_right)

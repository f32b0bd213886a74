"""Explicit dynamics of an elasto-plastic block under a moving rigid die, in plane strain and in JAX.

Four-node elements with one integration point; the hourglass modes it leaves free have a small stiffness of their own
(Flanagan and Belytschko). Isotropic perfectly plastic material: Jaumann rate of the stress, radial return to the yield
surface of von Mises. Central differences in time with lumped masses. The lower side of the block is clamped, its flanks
are free, and the upper side slides without friction on the die, whose velocity it takes on where they meet.

Units: mm, tonne, s, N, MPa, mJ. Node (i, j) counts from the upper right corner, i to the left and j down.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Scalar = float | Float[Array, ""]

# Share of the elastic stiffness against hourglass modes.
_HOURGLASS = 0.02
_HOURGLASS_MODE = (1.0, -1.0, 1.0, -1.0)
_PROJECTIONS = 2


class Material(NamedTuple):
    """Young's modulus and yield stress in MPa, Poisson's ratio, density in tonne/mm³."""

    young: Scalar
    poisson: Scalar
    yield_stress: Scalar
    density: Scalar

    @property
    def shear(self) -> Scalar:
        """Shear modulus in MPa."""
        return self.young / (2.0 * (1.0 + self.poisson))

    @property
    def bulk(self) -> Scalar:
        """Bulk modulus in MPa."""
        return self.young / (3.0 * (1.0 - 2.0 * self.poisson))

    @property
    def wave_speed(self) -> Scalar:
        """Speed of elastic compression waves in mm/s."""
        return ((self.bulk + 4.0 / 3.0 * self.shear) / self.density) ** 0.5


class Die(NamedTuple):
    """Height of the die above the upper side of the block at time 0, with slope, at the x of the upper nodes."""

    height: Float[Array, "N"]
    slope: Float[Array, "N"]
    speed: Scalar


class State(NamedTuple):
    """Fields of a moving block.

    `stress` has the components xx, yy, zz, xy of each element, `hourglass` its hourglass stresses, `plastic` its
    accumulated plastic strain. `work` is that done by the die so far and `internal` the strain energy and heat.
    """

    displacement: Float[Array, "2 N M"]
    velocity: Float[Array, "2 N M"]
    stress: Float[Array, "4 N-1 M-1"]
    hourglass: Float[Array, "2 N-1 M-1"]
    plastic: Float[Array, "N-1 M-1"]
    work: Float[Array, ""]
    internal: Float[Array, ""]


def at_rest(nodes: Float[Array, "2 N M"]) -> State:
    """Return the undeformed state."""
    cells = (nodes.shape[1] - 1, nodes.shape[2] - 1)
    zero = partial(jnp.zeros, dtype=nodes.dtype)
    return State(
        zero(nodes.shape), zero(nodes.shape), zero((4, *cells)), zero((2, *cells)), zero(cells), zero(()), zero(())
    )


def lumped_mass(nodes: Float[Array, "2 N M"], density: Scalar) -> Float[Array, "N M"]:
    """Return the mass of the nodes per unit of thickness: a quarter of each element's for each corner."""
    area, _ = _gradients(corners_of(nodes))
    return _to_nodes(jnp.broadcast_to(0.25 * density * area, (4, *area.shape)))


@partial(jax.jit, static_argnames=("steps", "frames"))
def press(
    die: Die, nodes: Float[Array, "2 N M"], material: Material, duration: Scalar, steps: int, frames: int
) -> tuple[Float[Array, "B T 2 N M"], State]:
    """Return the displacements at `frames` equally spaced times after 0, up to `duration`, and the final state.

    The dies have heights and slopes [B, N]; all other arguments are shared. `steps` is the number of time steps between
    frames.
    """

    def press_one(one: Die) -> tuple[jax.Array, State]:
        return _press_one(one, nodes, material, duration, steps, frames)

    return jax.vmap(press_one, in_axes=(Die(0, 0, None),))(die)


def _press_one(
    die: Die, nodes: jax.Array, material: Material, duration: Scalar, steps: int, frames: int
) -> tuple[jax.Array, State]:
    step = duration / (steps * frames)
    mass = lumped_mass(nodes, material.density)

    def frame(state: State, number: jax.Array) -> tuple[State, jax.Array]:
        def one(k: jax.Array, state: State) -> State:
            return advance(state, (number * steps + k + 1) * step, step, die, nodes, mass, material)

        state = jax.lax.fori_loop(0, steps, one, state)
        return state, state.displacement

    state, displacements = jax.lax.scan(frame, at_rest(nodes), jnp.arange(frames))
    return displacements, state


def advance(
    state: State,
    time: Scalar,
    step: Scalar,
    die: Die,
    nodes: Float[Array, "2 N M"],
    mass: Float[Array, "N M"],
    material: Material,
) -> State:
    """Return the state at `time`, one `step` after that given; its velocity is that in the middle of the step."""
    # The lower side is clamped.
    moving = jnp.ones(mass.shape[1], nodes.dtype).at[-1].set(0.0)
    velocity = (state.velocity - step * _internal_force(state, nodes) / mass) * moving
    before = nodes + state.displacement
    top = _on_die(before[:, :, 0] + step * velocity[:, :, 0], nodes, die, time)
    contact = (top - before[:, :, 0]) / step
    impulse = mass[:, 0] * (contact - velocity[:, :, 0])
    work = state.work + 0.5 * jnp.sum(impulse * (contact + state.velocity[:, :, 0]))
    velocity = velocity.at[:, :, 0].set(contact)
    middle = corners_of(before + 0.5 * step * velocity)
    elements, power = update_elements(state, middle, corners_of(velocity), step, material)
    return State(state.displacement + step * velocity, velocity, *elements, work, state.internal + step * power)


def die_surface(
    x: Float[Array, "C"], nodes: Float[Array, "2 N M"], die: Die, time: Scalar
) -> tuple[Float[Array, "C"], Float[Array, "C"]]:
    """Return height and slope of the die at positions x: cubic between the nodes' first positions, level beyond."""
    first, spacing = nodes[0, 0, 0], nodes[0, 0, 0] - nodes[0, 1, 0]
    place = jnp.clip((first - x) / spacing, 0.0, die.height.shape[0] - 1.0)
    cell = jnp.minimum(place.astype(int), die.height.shape[0] - 2)
    s = place - cell
    left, right = die.height[cell], die.height[cell + 1]
    # Index and x run in opposite directions.
    rise_left, rise_right = -spacing * die.slope[cell], -spacing * die.slope[cell + 1]
    bend = 3.0 * (right - left) - 2.0 * rise_left - rise_right
    twist = rise_left + rise_right - 2.0 * (right - left)
    height = left + s * (rise_left + s * (bend + s * twist))
    slope = -(rise_left + s * (2.0 * bend + 3.0 * s * twist)) / spacing
    inside = (place > 0.0) & (place < die.height.shape[0] - 1.0)
    return nodes[1, 0, 0] + height - die.speed * time, jnp.where(inside, slope, 0.0)


def _on_die(position: jax.Array, nodes: jax.Array, die: Die, time: Scalar) -> jax.Array:
    """Move points that are inside the die to its surface, along its normal."""
    for _ in range(_PROJECTIONS):
        height, slope = die_surface(position[0], nodes, die, time)
        depth = jnp.maximum(position[1] - height, 0.0) / (1.0 + slope**2)
        position = position + depth * jnp.stack([slope, -jnp.ones_like(slope)])
    return position


def corners_of(field: Float[Array, "2 N M"]) -> Float[Array, "4 2 N-1 M-1"]:
    """Return the values at the four corners of every element, anticlockwise."""
    return jnp.stack([field[..., :-1, :-1], field[..., 1:, :-1], field[..., 1:, 1:], field[..., :-1, 1:]])


def _to_nodes(values: jax.Array) -> jax.Array:
    """Return the sums over the elements around each node of the values at their corners."""
    beyond = [(0, 0)] * (values.ndim - 3)
    return sum(
        jnp.pad(corner, [*beyond, (right, 1 - right), (down, 1 - down)])
        for corner, (right, down) in zip(values, ((0, 0), (1, 0), (1, 1), (0, 1)), strict=True)
    )


def _gradients(corners: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the elements' areas and, for each corner, the gradient of its shape function times the area."""
    x, y = corners[:, 0], corners[:, 1]
    area = 0.5 * ((x[2] - x[0]) * (y[3] - y[1]) + (x[1] - x[3]) * (y[2] - y[0]))
    along_x = 0.5 * jnp.stack([y[1] - y[3], y[2] - y[0], y[3] - y[1], y[0] - y[2]])
    along_y = 0.5 * jnp.stack([x[3] - x[1], x[0] - x[2], x[1] - x[3], x[2] - x[0]])
    return area, jnp.stack([along_x, along_y], axis=1)


def _hourglass_shape(corners: jax.Array, area: jax.Array, gradients: jax.Array) -> jax.Array:
    """Return the hourglass pattern of each element, made orthogonal to linear fields."""
    mode = jnp.asarray(_HOURGLASS_MODE, corners.dtype)[:, None, None]
    tilt = jnp.einsum("a,ac...->c...", mode[:, 0, 0], corners)
    return 0.25 * (mode - jnp.einsum("c...,ac...->a...", tilt, gradients) / area)


def _internal_force(state: State, nodes: jax.Array) -> jax.Array:
    """Return the nodal forces of the stresses."""
    corners = corners_of(nodes + state.displacement)
    area, gradients = _gradients(corners)
    xx, yy, _, xy = state.stress
    gx, gy = gradients[:, 0], gradients[:, 1]
    shape = _hourglass_shape(corners, area, gradients)
    force = jnp.stack([gx * xx + gy * xy, gx * xy + gy * yy], axis=1) + shape[:, None] * state.hourglass
    return _to_nodes(force)


def update_elements(
    state: State,
    corners: Float[Array, "4 2 N M"],
    velocity: Float[Array, "4 2 N M"],
    step: Scalar,
    material: Material,
) -> tuple[tuple[Float[Array, "4 N M"], Float[Array, "2 N M"], Float[Array, "N M"]], Float[Array, ""]]:
    """Return stress, hourglass stress and plastic strain after a step, and the power that the block takes up.

    `corners` and `velocity` are those of the elements' corners in the middle of the step.
    """
    area, gradients = _gradients(corners)
    # rate[c, d] is the derivative of velocity c along d.
    rate = jnp.einsum("ac...,ad...->cd...", velocity, gradients) / area
    volume = rate[0, 0] + rate[1, 1]
    shear, spin = 0.5 * (rate[0, 1] + rate[1, 0]), 0.5 * (rate[0, 1] - rate[1, 0])
    strain = jnp.stack([rate[0, 0] - volume / 3.0, rate[1, 1] - volume / 3.0, -volume / 3.0, shear])
    trial = _turned(state.stress, step * spin) + 2.0 * material.shear * step * strain
    stress, plastic = return_to_yield(trial, material)
    stress = stress.at[:3].add(step * material.bulk * volume)
    shape = _hourglass_shape(corners, area, gradients)
    warp = jnp.einsum("a...,ac...->c...", shape, velocity)
    modulus = material.bulk + 4.0 / 3.0 * material.shear
    stiffness = 0.5 * _HOURGLASS * modulus * jnp.sum(gradients**2, axis=(0, 1)) / area
    hourglass = state.hourglass + step * stiffness * warp
    mean = 0.5 * (stress + state.stress)
    density = mean[0] * rate[0, 0] + mean[1] * rate[1, 1] + 2.0 * mean[3] * shear
    power = jnp.sum(area * density) + 0.5 * jnp.sum((hourglass + state.hourglass) * warp)
    return (stress, hourglass, state.plastic + plastic), power


def _turned(stress: jax.Array, angle: jax.Array) -> jax.Array:
    """Return stresses turned clockwise by an angle, together with the material."""
    xx, yy, zz, xy = stress
    mean, half = 0.5 * (xx + yy), 0.5 * (xx - yy)
    cosine, sine = jnp.cos(2.0 * angle), jnp.sin(2.0 * angle)
    along, shear = half * cosine + xy * sine, xy * cosine - half * sine
    return jnp.stack([mean + along, mean - along, zz, shear])


def return_to_yield(
    trial: Float[Array, "4 N M"], material: Material
) -> tuple[Float[Array, "4 N M"], Float[Array, "N M"]]:
    """Return stresses (xx, yy, zz, xy) with the deviator scaled back to the yield surface, and the plastic strain."""
    normal = jnp.array([1.0, 1.0, 1.0, 0.0], trial.dtype)[:, None, None]
    pressure = normal * jnp.sum(trial[:3], axis=0) / 3.0
    deviator = trial - pressure
    size = jnp.sqrt(1.5 * (jnp.sum(deviator[:3] ** 2, axis=0) + 2.0 * deviator[3] ** 2))
    excess = jnp.maximum(size - material.yield_stress, 0.0)
    scale = 1.0 - excess / jnp.maximum(size, material.yield_stress)
    return deviator * scale + pressure, excess / (3.0 * material.shear)

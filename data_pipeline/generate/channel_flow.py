"""Steady incompressible flow in a channel of height 1 whose middle line is y = d(x): Taylor-Hood elements and Newton.

    (u . grad) u - nu Laplacian u + grad p = 0,   div u = 0

The channel is a rectangle in the coordinates x and η = y - d(x), in which d/dx becomes d/dx - d'(x) d/dη and areas stay
as they are: mesh and bases are those of the rectangle and are built once, only the slope d' differs between channels.
The walls do not slip, the velocity at the inlet is given, and at the outlet nu du/dn = p n.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse
from jaxtyping import Float64
from scipy.sparse.linalg import splu
from skfem import Basis, BilinearForm, ElementQuad1, ElementQuad2, MeshQuad

# Newton's method converges quadratically from the Stokes flow in 4 to 6 steps at the Reynolds numbers of a pipe.
_STEPS, _TOLERANCE = 20, 1e-10


@dataclass(frozen=True)
class Channel:
    """Bases on a rectangle of height 1 around η = 0: biquadratic velocity, bilinear pressure.

    `order` sorts the unknowns (u, v, p) of the whole system along x, which keeps the factors of the matrix in a band.
    """

    velocity: Basis
    pressure: Basis
    order: np.ndarray


def channel(length: float, along: int, across: int) -> Channel:
    """Build the bases on `along` x `across` equal elements of the rectangle [0, length] x [-1/2, 1/2]."""
    mesh = MeshQuad.init_tensor(np.linspace(0.0, length, along + 1), np.linspace(-0.5, 0.5, across + 1))
    velocity = Basis(mesh, ElementQuad2(), intorder=5)
    pressure = velocity.with_element(ElementQuad1())
    x, eta = np.hstack([velocity.doflocs, velocity.doflocs, pressure.doflocs])
    return Channel(velocity, pressure, np.lexsort((eta, x)))


def solve(
    channel: Channel,
    slope: Callable[[np.ndarray], np.ndarray],
    inlet: Callable[[np.ndarray], np.ndarray],
    viscosity: float,
) -> tuple[Float64[np.ndarray, "2 N"], Float64[np.ndarray, "M"]]:
    """Return velocity and pressure at the degrees of freedom of the bases.

    Arguments: `slope`, d'(x); `inlet`, velocity along x as a function of η.
    Raises ArithmeticError when Newton's method does not converge.
    """
    basis = channel.velocity
    forms = _Forms(channel, slope, viscosity)
    x, eta = basis.doflocs
    velocity = np.zeros((2, x.size))
    walls = np.isclose(np.abs(eta), 0.5)
    entry = np.isclose(x, 0.0)
    velocity[0, entry] = inlet(eta[entry])
    velocity[0, walls] = 0.0
    held = np.concatenate([walls | entry, walls | entry, np.zeros(channel.pressure.N, bool)])
    free = channel.order[~held[channel.order]]
    state = np.concatenate([velocity.ravel(), np.zeros(channel.pressure.N)])
    for step in range(_STEPS):
        matrix, residual = forms.linearised(state, convection=step > 0)
        change = splu(matrix[free][:, free].tocsc(), permc_spec="NATURAL").solve(residual[free])
        state[free] -= change
        if step > 0 and np.abs(change).max() < _TOLERANCE:
            return state[: 2 * x.size].reshape(2, -1), state[2 * x.size :]
    raise ArithmeticError(f"Newton's method did not converge in {_STEPS} steps; the flow may not be steady")


class _Forms:
    """The discrete equations of one channel."""

    def __init__(self, channel: Channel, slope: Callable, viscosity: float) -> None:
        self._velocity, self._pressure = channel.velocity, channel.pressure
        points = channel.velocity.global_coordinates()
        self._slope = slope(points[0])
        friction = BilinearForm(lambda u, v, w: _x(u, w) * _x(v, w) + u.grad[1] * v.grad[1])
        self._friction = viscosity * self._assemble(friction)
        gradients = (BilinearForm(lambda p, v, w: -p * _x(v, w)), BilinearForm(lambda p, v, _: -p * v.grad[1]))
        self._gradient = [form.assemble(self._pressure, self._velocity, slope=self._slope) for form in gradients]

    def linearised(self, state: np.ndarray, convection: bool) -> tuple[sparse.csr_matrix, np.ndarray]:
        """Return the Jacobian and the residual at `state`, those of the Stokes flow without `convection`."""
        unknowns = 2 * self._velocity.N
        gradient = sparse.vstack(self._gradient)
        blocks = [[self._friction, None], [None, self._friction]]
        system = sparse.bmat([[sparse.bmat(blocks), gradient], [gradient.T, None]], format="csr")
        residual = system @ state
        if convection:
            transport, reaction = self._convection(state[:unknowns].reshape(2, -1))
            residual[:unknowns] += np.concatenate([transport @ u for u in state[:unknowns].reshape(2, -1)])
            (xx, xy), (yx, yy) = reaction
            momentum = sparse.bmat([[transport + xx, xy], [yx, transport + yy]])
            system = system + sparse.block_diag([momentum, sparse.csr_matrix((self._pressure.N,) * 2)], format="csr")
        return system, residual

    def _convection(self, velocity: np.ndarray) -> tuple[sparse.csr_matrix, list[list[sparse.csr_matrix]]]:
        """Return the matrices of (u . grad) of the test velocity, and of the test velocity . grad u per component."""
        u, v = (self._velocity.interpolate(component) for component in velocity)
        transport = BilinearForm(lambda a, b, w: (w.u * _x(a, w) + w.v * a.grad[1]) * b)
        weighted = BilinearForm(lambda a, b, w: w.factor * a * b)
        reaction = [
            [self._assemble(weighted, factor=field.grad[0] - self._slope * field.grad[1]),
             self._assemble(weighted, factor=field.grad[1])]
            for field in (u, v)
        ]  # fmt: skip
        return self._assemble(transport, u=np.asarray(u), v=np.asarray(v)), reaction

    def _assemble(self, form: BilinearForm, **fields: np.ndarray) -> sparse.csr_matrix:
        return form.assemble(self._velocity, slope=self._slope, **fields)


def _x(field: object, w: object) -> np.ndarray:
    """Return the derivative along x at constant y of a function on the rectangle."""
    return field.grad[0] - w.slope * field.grad[1]

"""The FLARE mixer in Pallas kernels: four launches for forward and backward, memory O(N) (README.md, "Kernels").

On Hopper the last of them may be Mosaic GPU's.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from kernels._mosaic import takes_over
from kernels._statistics import Statistics
from kernels._target import Target
from kernels.flare_mixer import compact
from kernels.flare_mixer.exponents import operand_exponents
from kernels.flare_mixer.mixing import Backend, PointStatistics
from kernels.flare_mixer.mosaic_gradients import all_gradients, serves
from kernels.flare_mixer.operands import Operands
from kernels.flare_mixer.pallas_backward import latent_gradient, operand_gradients
from kernels.flare_mixer.pallas_scatter import scatter
from kernels.flare_mixer.table import KernelBlocks
from kernels.gather.pallas_forward import gather_points


@dataclass(frozen=True)
class PallasBackend(Backend):
    """The mixer as kernels whose launches are `blocks`."""

    blocks: KernelBlocks
    target: Target

    def gather(self, operands: Operands, *, scale: float) -> Statistics:
        return gather_points(operands.of_gather, scale, self.blocks.gather, self.target)

    def forward(self, operands: Operands, *, scale: float) -> tuple[jax.Array, Statistics, PointStatistics]:
        if compact.serves(operands, self.blocks, self.target):
            return compact.forward(operands, scale, self.blocks, self.target)
        return super().forward(operands, scale=scale)

    def backward(
        self,
        operands: Operands,
        statistics: Statistics,
        point_statistics: PointStatistics,
        y: jax.Array,
        dy: jax.Array,
        dz_direct: jax.Array,
        *,
        scale: float,
    ) -> Operands:
        kept = operands, statistics, point_statistics, y, dy, dz_direct
        if compact.serves(operands, self.blocks, self.target):
            return compact.backward(*kept, scale, self.blocks, self.target)
        return super().backward(*kept, scale=scale)

    def exponential(self, x: jax.Array) -> jax.Array:
        return jnp.exp2(x)

    def scatter(self, operands: Operands, statistics: Statistics, *, scale: float) -> tuple[jax.Array, PointStatistics]:
        exponents = operand_exponents(operands)
        y, *points = scatter(operands, statistics, exponents, scale, self.blocks.scatter, self.target)
        return y, tuple(points)

    def latent_gradient(
        self, operands: Operands, dy: jax.Array, statistics: PointStatistics, *, scale: float
    ) -> jax.Array:
        exponents = operand_exponents(operands)  # again: constants are not kept
        return latent_gradient(operands, exponents, dy, *statistics, scale, self.blocks.latent_gradient, self.target)

    def operand_gradients(
        self,
        operands: Operands,
        statistics: Statistics,
        point_statistics: PointStatistics,
        y: jax.Array,
        dy: jax.Array,
        dz: jax.Array,
        *,
        scale: float,
    ) -> Operands:
        pairs = self.blocks.pairs
        if pairs is not None and takes_over(self.target) and serves(operands, pairs, pairs.fewest):
            return all_gradients(
                operands, statistics, point_statistics, y, dy, dz, scale, blocks=pairs, target=self.target
            )
        return operand_gradients(
            operands,
            operand_exponents(operands),
            statistics,
            point_statistics,
            y,
            dy,
            dz,
            scale,
            self.blocks.operand_gradients,
            self.target,
        )

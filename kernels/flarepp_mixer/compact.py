"""The mixer in six kernels with no programs of XLA between them, which with few points take longer than the kernels.

What the splits of the first gather left is merged by the second, which makes the queries of it and keeps them; what
each split found for the gradients of these queries is summed up by the kernel of the first gather's gradients. The
others are those of `kernels/flare_mixer/compact.py`.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from kernels._layout import Layout
from kernels._pairs import Gradients
from kernels._statistics import Statistics
from kernels._tiling import Blocks
from kernels.flare_mixer import compact as flare_mixer
from kernels.flare_mixer.pallas import PallasBackend as Routing
from kernels.flarepp_mixer.compact_kernels import (
    GradientInputs,
    GradientOutputs,
    QueryInputs,
    QueryOutputs,
    gather_kernel,
    gradient_kernel,
    parameters_of_queries,
)
from kernels.flarepp_mixer.operands import Latents, Mixed, Operands
from kernels.gather.compact import MOST_SPLITS, gather_splits, splits_output
from kernels.gather.pallas import PallasBackend as Synthesis
from kernels.gather.pallas import like_latents, sum_of_splits


class Kernels(NamedTuple):
    """The launches of the gather that makes the queries, and those of the mixer with them."""

    synthesis: Synthesis
    routing: Routing

    def _synthesis_layout(self, operands: Operands, blocks: Blocks, all_latents: bool) -> Layout:
        q, k, _, mask, _ = operands.synthesis
        kernels = self.synthesis
        return Layout.create(blocks, q, k, mask, kernels.target, all_latents=all_latents, coarse=kernels.coarse)

    def _routing_layout(self, operands: Operands, blocks: Blocks, all_latents: bool) -> Layout:
        target = self.routing.target
        return Layout.create(blocks, operands.q_fixed, operands.k, operands.mask, target, all_latents=all_latents)

    def serve(self, operands: Operands) -> bool:
        """Return whether the mixer's launches ask for such kernels, and one tile of the gradients holds all latents."""
        blocks, routing = self.synthesis.blocks, self.routing.blocks
        gradients = self._synthesis_layout(operands, self.synthesis.gradient_blocks, True).tiling
        merged = (
            self._synthesis_layout(operands, blocks.gather, False),
            self._routing_layout(operands, routing.operand_gradients, True),
        )
        return (
            flare_mixer.serves(operands.routing(operands.q_fixed), routing, self.routing.target)
            and gradients.latent_tiles == gradients.group == 1
            and all(layout.tiling.splits <= MOST_SPLITS for layout in merged)
        )

    def forward(self, operands: Operands, scale: float) -> Mixed:
        """Return the mixed points and what the backward pass needs."""
        synthesis, routing = self.synthesis, self.routing
        parameters = parameters_of_queries(operands)
        launch = synthesis.blocks.gather, synthesis.target, synthesis.coarse
        parts = gather_splits(operands.synthesis, scale, *launch, parameters)
        queries = self._gather(operands, parameters, parts, scale)
        scattered = flare_mixer.scatter(
            operands.routing(queries.q), queries.parts, scale, routing.blocks, routing.target
        )
        y, *statistics = scattered
        return Mixed(y, queries.q, queries.synthesis, *statistics)

    def _gather(self, operands: Operands, parameters: jax.Array, parts: Statistics, scale: float) -> QueryOutputs:
        """Make the queries of what each split gathered, and gather with them."""
        k, v = operands.k, operands.v
        width, channels = k.shape[-1], v.shape[-1]
        layout = self._routing_layout(operands, self.routing.blocks.gather, False)
        kernel = functools.partial(gather_kernel, widths=(width, channels), splits=parts.mass.shape[2], scale=scale)
        inputs = QueryInputs(
            Statistics(*map(layout.split_latents, parts)),
            layout.latents(parameters),
            (layout.points(k), layout.points(v), layout.mask(operands.mask)),
        )
        latents, numbers = layout.merged_latents(width), layout.merged_latents()
        outputs = QueryOutputs(latents, Statistics(latents, numbers, numbers), splits_output(layout, channels))
        return layout.launch(kernel, "flarepp_gather", inputs, outputs)

    def backward(self, operands: Operands, mixed: Mixed, dy: jax.Array, direct: Latents, scale: float) -> Operands:
        """Return the gradients of all operands; `direct` are those of the latents that are returned."""
        routing = self.routing
        kept = mixed.routing, mixed.points, mixed.y, dy, direct.z
        dk, dv, (parts,) = flare_mixer.gradient_splits(
            operands.routing(mixed.q), *kept, scale, routing.blocks, routing.target
        )
        found = self._gradients(operands, mixed.synthesis, parts, direct, scale)
        (dk0,), dv0, (dq0,) = found.points
        return Operands(
            like_latents(sum_of_splits(dq0, operands.q0), operands.q0),
            like_latents(found.q, operands.q_fixed),
            jnp.sum(found.gate, axis=(0, 2)).astype(operands.gate.dtype),
            dk0,
            dv0,
            *dk,
            dv,
        )

    def _gradients(
        self, operands: Operands, statistics: Statistics, parts: jax.Array, direct: Latents, scale: float
    ) -> GradientOutputs:
        """Return the gradients of the first gather's operands, of all queries, and of the gate in each sample."""
        _, k, v, mask, _ = operands.synthesis
        width, channels = k.shape[-1], operands.synthesis.values.shape[-1]
        layout = self._synthesis_layout(operands, self.synthesis.gradient_blocks, True)
        inputs = GradientInputs(
            layout.split_columns(parts),
            layout.latents(direct.q[None]),
            layout.latents(direct.q_dynamic[None]),
            Statistics(layout.latents(statistics.latents[None]), *map(layout.latent_statistics, statistics[1:])),
            layout.latents(parameters_of_queries(operands)),
            (layout.points(k), layout.points(v)),
            layout.mask(mask),
        )
        points = Gradients(
            [layout.points_output(width, k.dtype)],
            None if v is None else layout.points_output(channels, v.dtype),
            [layout.partial_columns(width)],
        )
        outputs = GradientOutputs(points, layout.merged_latents(channels), layout.head_number_output())
        kernel = functools.partial(gradient_kernel, widths=(width, channels), splits=parts.shape[2], scale=scale)
        return layout.launch(kernel, "flarepp_gradients", inputs, outputs)

"""What FLARE++ makes of its parameters before it sees a point: queries, how they are combined, bounds of keys.

All of it has the size of latents, so that a program of its own for each array and block takes longer to start than to
run: `prepare_together` does it for the blocks of a network at once.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flare_jax.layers.norms import normalize
from kernels.residual_mlp import Norm


class Combination(NamedTuple):
    """How the gathered queries become those of the routing: `norm(fixed + gate · gathered)`, each part optional."""

    fixed: Float[Array, "H M D"] | None
    gate: Float[Array, " H"] | None
    norm: Norm | None

    def __call__(self, gathered: Float[Array, "B H M D"]) -> Float[Array, "B H M D"]:
        """Return the queries in float32."""
        queries = gathered.astype(jnp.float32)
        if self.fixed is not None:
            queries = self.fixed + self.gate[:, None, None] * queries
        return queries if self.norm is None else normalize(queries, self.norm)


class RoutingLatents(NamedTuple):
    """The queries of the first gather in float32, how gathered queries become those of the routing, and bounds.

    `largest` are numbers that the norms of `k0` and of `k` do not exceed, None where their norms do not give one.
    """

    q0: Float[Array, "H M D"]
    combination: Combination
    largest: tuple[Float[Array, ""] | None, Float[Array, ""] | None]


class LatentParameters(NamedTuple):
    """The parameters that this follows from; norms of k0 and k are those of the points' heads."""

    q0: Float[Array, "H M D"]
    q_fixed: Float[Array, "H M D"] | None
    gate_logit: Float[Array, " H"] | None
    q0_norm: Norm | None
    q_fixed_norm: Norm | None
    q_norm: Norm | None
    k0_norm: Norm | None
    k_norm: Norm | None

    def prepare(self, *, sigmoid_gate: bool, turned: bool = False) -> RoutingLatents:
        """Return what the mixer works with; the gate is the logit itself, or its logistic sigmoid.

        `turned` is whether a rotary embedding turns the keys, which in mode "reference" makes them up to √2 longer.
        """
        gate = self.gate_logit
        gate = jax.nn.sigmoid(gate) if sigmoid_gate and gate is not None else gate
        fixed = None if self.q_fixed is None else _normalized(self.q_fixed, self.q_fixed_norm)
        width = self.q0.shape[-1]
        return RoutingLatents(
            _normalized(self.q0, self.q0_norm),
            Combination(fixed, gate, self.q_norm),
            tuple(_largest(norm, width, turned) for norm in (self.k0_norm, self.k_norm)),
        )


def prepare_together(parameters: Sequence[LatentParameters], *, sigmoid_gate: bool) -> list[RoutingLatents]:
    """Return what each of several mixers works with, in one operation each for all whose arrays have equal shapes."""
    structure = jax.tree.structure(parameters[0])
    shapes = [[x.shape for x in jax.tree.leaves(p)] for p in parameters]
    if any(jax.tree.structure(p) != structure for p in parameters) or any(s != shapes[0] for s in shapes):
        return [p.prepare(sigmoid_gate=sigmoid_gate) for p in parameters]
    # A barrier on either side, also of the gradients: XLA would compute norms again wherever a block reads them.
    stacked = jax.lax.optimization_barrier(jax.tree.map(lambda *x: jnp.stack(x), *parameters))
    latents = jax.vmap(lambda p: p.prepare(sigmoid_gate=sigmoid_gate))(stacked)
    leaves, structure = jax.tree.flatten(latents)
    parts = _split_together(leaves)
    return [structure.unflatten([part[index] for part in parts]) for index in range(len(parameters))]


def _split_together(arrays: Sequence[Float[Array, "..."]]) -> list[list[Float[Array, "..."]]]:
    """Return what each array has for each index of its first axis, cut from one array for those of one shape.

    What reads several parts of one array is one program for all blocks, what reads one part is a program of its own.
    """
    members: dict[tuple[int, ...], list[int]] = {}
    for index, x in enumerate(arrays):
        members.setdefault(x.shape, []).append(index)
    together = [jnp.concatenate([arrays[index] for index in of_shape]) for of_shape in members.values()]
    cut: dict[int, list[Array]] = {}
    for of_shape, x in zip(members.values(), jax.lax.optimization_barrier(together), strict=True):
        count = len(x) // len(of_shape)
        # The gradient of a split is one array put together, that of an index one as large as all for each block.
        parts = [part[0] for part in jax.lax.split(x, [1] * len(x))]
        cut |= {index: parts[start * count : (start + 1) * count] for start, index in enumerate(of_shape)}
    return [cut[index] for index in range(len(arrays))]


def _normalized(latents: Float[Array, "H M D"], norm: Norm | None) -> Float[Array, "H M D"]:
    return latents if norm is None else normalize(latents, norm)


def _largest(norm: Norm | None, width: int, turned: bool) -> Float[Array, ""] | None:
    """Return what the norm of normalised heads does not exceed: rows of a norm of √D, scaled and shifted."""
    if norm is None:
        return None
    scale = 1.0 if norm.scale is None else jnp.max(jnp.abs(norm.scale))
    shift = 0.0 if norm.bias is None else jnp.sqrt(jnp.sum(jnp.square(norm.bias)))
    longest = (2**0.5 if turned else 1.0) * (scale * width**0.5 + shift)
    return jax.lax.stop_gradient(jnp.asarray(longest, jnp.float32))

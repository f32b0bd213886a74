"""FLARE and FLARE++ on clouds in pieces: what latents gather piece by piece, and what points read from them.

Both gathers are softmaxes over all points, so that the result is that of the whole cloud up to rounding: no
approximation, and not the prediction for each piece alone.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_integer
from flare_jax.mixers.flare_attention import FlareAttention
from flare_jax.mixers.heads import merge_heads
from flare_jax.mixers.softmax_sums import SoftmaxSums, merge_sums, no_sums, read_sums, sum_points
from flare_jax.mixers.synthesized_routing import SynthesizedRouting

Points = Float[Array, "B N C"]
Mask = Bool[Array, "B N"]


class BlockLatents(NamedTuple):
    """What a point needs of all others in one block: the queries of the latents and what they gathered."""

    q: Float[Array, "B H M D"]
    z: Float[Array, "B H M D"]


def why_no_pieces(model: nnx.Module) -> str:
    """Return why a model has no points in pieces, "" where its points meet in the latents of its blocks alone."""
    if not all(hasattr(model, part) for part in ("in_proj", "applications", "out_proj")):
        return f"points in pieces need a model of FLARE or FLARE++, and this is {type(model).__name__}"
    for block in model.applications():
        att = getattr(block, "att", block)
        if not isinstance(att, FlareAttention | SynthesizedRouting):
            return f"points in pieces need a mixer of FLARE or FLARE++, and this model has {type(att).__name__}"
        if isinstance(att, FlareAttention) and (att.latent_blocks or att.g_proj is not None):
            return "points in pieces have no form of FLARE's latent blocks and gates"
    return ""


def check_pieces(model: nnx.Module) -> None:
    """Raise ValueError for a model without points in pieces."""
    if reason := why_no_pieces(model):
        raise ValueError(f"{reason}; predict for all points at once")


def check_alone(points_per_piece: int, **asked: bool) -> None:
    """Raise ValueError if something else than the prediction is asked for that pieces do not give."""
    for name in (name for name, value in asked.items() if value):
        raise ValueError(
            f"points_per_piece={points_per_piece} gives predictions alone, and {name} is of all points at once; leave "
            "one of them out"
        )


def makes_queries(block: nnx.Module) -> bool:
    """Return whether a block makes its queries from the points, as FLARE++ does; those of FLARE are parameters."""
    return isinstance(block.att, SynthesizedRouting)


def synthesis_sums(block: nnx.Module, x: Points, mask: Mask) -> SoftmaxSums:
    """Return what the first gather of a block that makes its queries adds up over a piece."""
    k0, v0 = block.att.synthesis_points(x, block.norm1)
    q0 = _per_sample(block.att.latents().q0, k0)
    return sum_points(q0, k0, k0 if v0 is None else v0, mask, scale=block.att.scale)


def routing_queries(block: nnx.Module, sums: SoftmaxSums | None, batch: int) -> Float[Array, "B H M D"]:
    """Return the queries of the routing; `sums` are those of the first gather, None where queries are parameters."""
    if sums is not None:
        return block.att.latents().combination(sums.mean)
    q = block.att.queries()
    return jnp.broadcast_to(q, (batch, *q.shape))


def gather_sums(block: nnx.Module, q: Float[Array, "B H M D"], x: Points, mask: Mask) -> SoftmaxSums:
    """Return what the latents add up over a piece."""
    k, v = block.att.keys_and_values(x, block.norm1)
    return sum_points(q.astype(k.dtype), k, v, mask, scale=block.att.scale)


def read_block(block: nnx.Module, latents: BlockLatents, x: Points) -> Points:
    """Return points after the block, from what its latents hold."""
    k = block.att.keys(x, block.norm1)
    y = merge_heads(read_sums(k, latents.q.astype(k.dtype), latents.z, scale=block.att.scale))
    return block.mlp(y, projection=block.att.out_proj, skip=x, norm=block.norm2, outer_residual=True)


def gather_block(block: nnx.Module, pieces: Float[Array, "P B N C"], masks: Bool[Array, "P B N"]) -> BlockLatents:
    """Return the latents of a block for a cloud of P pieces."""
    batch = pieces.shape[1]
    shape = (batch, block.att.num_heads, block.att.num_latents)

    def add_up(sums_of: Callable[[Array, Array], SoftmaxSums]) -> SoftmaxSums:
        def add(sums: SoftmaxSums, piece: tuple[Array, Array]) -> tuple[SoftmaxSums, None]:
            return merge_sums(sums, sums_of(*piece)), None

        return jax.lax.scan(add, no_sums(shape, block.att.head_dim), (pieces, masks))[0]

    synthesis = add_up(lambda x, mask: synthesis_sums(block, x, mask)) if makes_queries(block) else None
    q = routing_queries(block, synthesis, batch)
    return BlockLatents(q, add_up(lambda x, mask: gather_sums(block, q, x, mask)).mean)


def predict_in_pieces(
    model: nnx.Module, x: Float[Array, "B N C_in"], mask: Mask | None, points_per_piece: int
) -> Float[Array, "B N C_out"]:
    """Return the prediction of a FLARE or FLARE++ model, whose blocks work on so many points at a time.

    Beside the points themselves [B, N, C] nothing of their number is held. Raises ValueError for other models.
    """
    check_integer("points_per_piece", points_per_piece)
    check_pieces(model)
    points = x.shape[1]
    size = min(points_per_piece, points)
    real = jnp.ones(x.shape[:2], bool) if mask is None else mask
    pieces, masks = (_cut(a, size) for a in (jnp.where(real[..., None], x, 0), real))
    stream = jax.lax.map(model.in_proj, pieces)
    for block in model.applications():
        latents = gather_block(block, stream, masks)
        stream = _in_place(functools.partial(read_block, block, latents), stream)
    y = jax.lax.map(model.out_proj, stream)
    return jnp.moveaxis(y, 0, 1).reshape(x.shape[0], -1, y.shape[-1])[:, :points].astype(jnp.float32)


def _in_place(step: Callable[[Points], Points], stream: Float[Array, "P B N C"]) -> Float[Array, "P B N C"]:
    """Return all pieces after `step`, each in the room of the one before it; each `map` would take room of its own."""
    return jax.lax.fori_loop(0, len(stream), lambda i, pieces: pieces.at[i].set(step(pieces[i])), stream)


def _per_sample(q: Float[Array, "H M D"], points: Float[Array, "B N H D"]) -> Float[Array, "B H M D"]:
    return jnp.broadcast_to(q.astype(points.dtype), (points.shape[0], *q.shape))


def _cut(a: Array, size: int) -> Array:
    """Return [B, N, ...] as [P, B, size, ...], filled up with zeros."""
    padding = [(0, 0)] * a.ndim
    padding[1] = (0, -a.shape[1] % size)
    return jnp.moveaxis(jnp.pad(a, padding).reshape(a.shape[0], -1, size, *a.shape[2:]), 1, 0)

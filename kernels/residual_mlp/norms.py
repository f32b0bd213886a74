"""LayerNorm and RMSNorm on row tiles, forward and backward, with float32 statistics."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from kernels.residual_mlp.chain import Arithmetic, Sink, add, multiply
from kernels.residual_mlp.operands import HeadNorm, Norm
from kernels.residual_mlp.tiles import Chunk, Part, Tile


class NormState(NamedTuple):
    """What the backward pass needs: the normalised tile before the scale, and 1 / deviation of every row."""

    normalized: Tile
    inverse: Array


def apply_norm(norm: Norm, arithmetic: Arithmetic, chunks: tuple[Chunk, ...], tile: Tile) -> tuple[Tile, NormState]:
    """Return the normalised, scaled and shifted tile and the state; `norm` holds references."""
    if norm.kind == "layer":
        mean = _channel_mean(arithmetic, chunks, tile)
        # Columns beyond the width must stay zero: they would otherwise count in the variance.
        tile = tuple(_valid(arithmetic, chunk, part - mean) for chunk, part in zip(chunks, tile, strict=True))
    inverse = lax.rsqrt(_channel_mean(arithmetic, chunks, multiply(tile, tile)) + norm.epsilon)
    normalized = tuple(part * inverse for part in tile)
    result = multiply(normalized, _vector(arithmetic, norm.scale, chunks))
    if norm.bias is not None:
        result = add(result, _vector(arithmetic, norm.bias, chunks))
    return result, NormState(normalized, inverse)


def norm_cotangent(
    norm: Norm,
    sections: Norm,
    arithmetic: Arithmetic,
    chunks: tuple[Chunk, ...],
    state: NormState,
    cotangent: Tile,
    sink: Sink,
) -> Tile:
    """Hand the gradients of scale and bias to the sink and return the cotangent of the norm's input."""
    sink.sums(sections.scale, chunks, multiply(cotangent, state.normalized))
    if norm.bias is not None:
        sink.sums(sections.bias, chunks, cotangent)
    inner = multiply(cotangent, _vector(arithmetic, norm.scale, chunks))
    along = _channel_mean(arithmetic, chunks, multiply(inner, state.normalized))
    shift = _channel_mean(arithmetic, chunks, inner) if norm.kind == "layer" else 0.0
    return tuple(
        state.inverse * (part - shift - normalized * along)
        for part, normalized in zip(inner, state.normalized, strict=True)
    )


def apply_head_norm(norm: HeadNorm, arithmetic: Arithmetic, chunks: tuple[Chunk, ...], tile: Tile) -> Tile:
    """Return the tile with every head normalised, scaled and shifted; `norm` holds references of `[C]`."""
    heads = [_normalized_heads(norm, arithmetic, chunks, part) for part in tile]
    result = tuple(heads.normalized.reshape(part.shape) for heads, part in zip(heads, tile, strict=True))
    if norm.scale is not None:
        result = multiply(result, _vector(arithmetic, norm.scale, chunks))
    return result if norm.bias is None else add(result, _vector(arithmetic, norm.bias, chunks))


def head_norm_cotangent(
    norm: HeadNorm,
    sections: HeadNorm,
    arithmetic: Arithmetic,
    chunks: tuple[Chunk, ...],
    tile: Tile,
    cotangent: Tile,
    sink: Sink,
) -> Tile:
    """Hand the gradients of scale and bias to the sink and return the cotangent of `tile`, which was normalised."""
    heads = [_normalized_heads(norm, arithmetic, chunks, part) for part in tile]
    if norm.scale is not None:
        normalized = tuple(part.normalized.reshape(block.shape) for part, block in zip(heads, tile, strict=True))
        sink.sums(sections.scale, chunks, multiply(cotangent, normalized))
    if norm.bias is not None:
        sink.sums(sections.bias, chunks, cotangent)
    inner = cotangent if norm.scale is None else multiply(cotangent, _vector(arithmetic, norm.scale, chunks))
    return tuple(_heads_cotangent(norm, part, block) for part, block in zip(heads, inner, strict=True))


class _Heads(NamedTuple):
    """A block cut into heads, `[rows, H, D]` or `[H, D, rows]`: normalised, with 1 / deviation, and the axis of D."""

    normalized: Array
    inverse: Array
    axis: int

    def mean(self, values: Array) -> Array:
        """Return the mean over each head, axis kept."""
        return _head_mean(values, self.axis)


def _normalized_heads(norm: HeadNorm, arithmetic: Arithmetic, chunks: tuple[Chunk, ...], block: Array) -> _Heads:
    width = sum(chunk.valid for chunk in chunks) // norm.heads
    axis = arithmetic.channel_axis
    # Columns beyond the width are whole heads of zeros.
    shape = (*block.shape[:axis], block.shape[axis] // width, width, *block.shape[axis + 1 :])
    heads = block.reshape(shape)
    if norm.kind == "layer":
        heads = heads - _head_mean(heads, axis + 1)
    inverse = lax.rsqrt(_head_mean(heads * heads, axis + 1) + norm.epsilon)
    return _Heads(heads * inverse, inverse, axis + 1)


def _heads_cotangent(norm: HeadNorm, heads: _Heads, block: Array) -> Array:
    inner = block.reshape(heads.normalized.shape)
    shift = heads.mean(inner) if norm.kind == "layer" else 0.0
    along = heads.mean(inner * heads.normalized)
    return (heads.inverse * (inner - shift - heads.normalized * along)).reshape(block.shape)


def _head_mean(values: Array, axis: int) -> Array:
    return jnp.expand_dims(jnp.sum(values, axis=axis) * (1.0 / values.shape[axis]), axis)


def _vector(arithmetic: Arithmetic, vector: Part, chunks: tuple[Chunk, ...]) -> Tile:
    return tuple(arithmetic.vector(vector, chunk) for chunk in chunks)


def _channel_mean(arithmetic: Arithmetic, chunks: tuple[Chunk, ...], tile: Tile) -> Array:
    """Return the mean over the channels, axis kept, of a tile that is zero beyond its width."""
    return sum(arithmetic.over_channels(part) for part in tile) * (1.0 / sum(chunk.valid for chunk in chunks))


def _valid(arithmetic: Arithmetic, chunk: Chunk, part: Array) -> Array:
    if not chunk.partial:
        return part
    channel = lax.broadcasted_iota(jnp.int32, part.shape, arithmetic.channel_axis)
    return jnp.where(channel < chunk.valid, part, 0.0)

"""Clouds of any size with FLARE and FLARE++: encode a cloud once, then decode any points.

    cloud = CloudModel(model)
    encoded = cloud.encode(points)              # [B, N, C_in] of any N
    y = cloud.decode(encoded, other_points)     # fields there; the points are no part of the cloud
    y = cloud(points)                           # the prediction of the model itself, up to rounding

The device works on one piece of the cloud at a time, and what it holds does not grow with the cloud, unless points are
kept there. A block of FLARE takes one pass over the points, which are written back on the way, one of FLARE++ a second.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_choice, check_integer, check_points
from flare_jax.layers.padding import zero_padding
from flare_jax.mixers.softmax_sums import merge_sums
from flare_jax.models import pieces as steps
from flare_jax.models.pieces import BlockLatents
from flare_jax.models.waiting_points import KEEP, WaitingPoints

Cloud = Float[np.ndarray | Array, "B N C_in"]
Mask = Bool[np.ndarray | Array, "B N"]

POINTS_PER_PIECE = 2**15


class EncodedCloud(NamedTuple):
    """What the blocks of a model know of a cloud, B samples; its size does not depend on the number of points."""

    blocks: tuple[BlockLatents, ...]


class CloudModel:
    """Predictions of a FLARE or FLARE++ model for clouds of any size, in pieces of `points_per_piece`.

    Between two blocks the points [B, N, C] are kept on the "host", on the "device", or computed again from the input
    ("recompute", which takes half as many block applications again as there are blocks, for each block). Raises
    ValueError for models whose points do not meet in latents alone.
    """

    def __init__(self, model: nnx.Module, *, points_per_piece: int = POINTS_PER_PIECE, keep: str = "host"):
        check_choice("keep", keep, KEEP)
        self.size = check_integer("points_per_piece", points_per_piece)
        self.keep = keep
        steps.check_pieces(model)
        self.in_dim = model.in_dim
        self.latent_shapes = [_latent_shape(block.att) for block in model.applications()]
        self.embedding, self.head = nnx.split(model.in_proj), nnx.split(model.out_proj)
        self.blocks = [nnx.split(_only_routing(block)) for block in model.applications()]
        self.synthesizes = [steps.makes_queries(block) for block in model.applications()]

    def encode(self, points: Cloud, mask: Mask | None = None) -> EncodedCloud:
        """Return what the model knows of the cloud; points where `mask` is False are no part of it.

        Raises ValueError if `points` are not [B, N, C_in] or `mask` not a bool array [B, N].
        """
        check_points(points, mask, self.in_dim)
        encoded, _ = self._encode(points, mask, predicts=False)
        return encoded

    def decode(self, encoded: EncodedCloud, points: Cloud) -> Float[np.ndarray, "B N C_out"]:
        """Return the fields at any points, float32 on the host.

        An encoding of one sample serves any number of samples of points, one of B samples as many. Raises ValueError
        if `points` are not [B, N, C_in], and for encodings whose shapes are not those of this model: what another model
        of the same shapes has encoded cannot be told from its own.
        """
        check_points(points, None, self.in_dim)
        return self._decoded(self._latents_for(encoded, points.shape[0]), points)

    def __call__(self, points: Cloud, mask: Mask | None = None) -> Float[np.ndarray, "B N C_out"]:
        """Return the prediction of the model for a cloud at its own points; at masked points it is meaningless.

        Raises ValueError if `points` are not [B, N, C_in] or `mask` not a bool array [B, N].
        """
        check_points(points, mask, self.in_dim)
        encoded, waiting = self._encode(points, mask, predicts=True)
        if waiting is None:
            points = points if mask is None else np.where(np.asarray(mask)[..., None], points, 0)
            return self._decoded(encoded.blocks, points)
        return self._finished((_read(*self.blocks[-1], encoded.blocks[-1], x) for x in waiting), points.shape[1])

    def _encode(self, points: Cloud, mask: Mask | None, predicts: bool) -> tuple[EncodedCloud, WaitingPoints | None]:
        """Return the encoding and, if they are kept, the points, before the last block where the call `predicts`."""
        waiting = None if self.keep == "recompute" else WaitingPoints(self.keep, points.shape[1])
        encoded: tuple[BlockLatents, ...] = ()
        for block, synthesizes in zip(self.blocks, self.synthesizes, strict=True):
            wanted = predicts or synthesizes or len(encoded) + 1 < len(self.blocks)
            entering = functools.partial(self._entering, points, mask, encoded, waiting)
            synthesis = _add_up(entering(kept=True), functools.partial(_synthesis, *block)) if synthesizes else None
            q = _queries(*block, synthesis, points.shape[0])
            pieces = entering(again=True) if synthesizes else entering(kept=wanted)
            sums = _add_up(pieces, functools.partial(_gathered, *block, q))
            encoded = (*encoded, BlockLatents(q, sums.mean))
        return EncodedCloud(encoded), waiting

    def _decoded(self, blocks: tuple[BlockLatents, ...], points: Cloud) -> Float[np.ndarray, "B N C_out"]:
        embedded = (self._embedded(x, real) for x, real in self._pieces(points, None))
        return self._finished((self._advance(x, blocks) for x in embedded), points.shape[1])

    def _finished(self, pieces: Iterable[Array], points: int) -> Float[np.ndarray, "B N C_out"]:
        """Return the fields of pieces that have passed all blocks; the device works on one while one is copied."""
        parts, ahead = [], None
        for x in pieces:
            done, ahead = ahead, _finish(*self.head, x)
            if done is not None:
                parts.append(np.asarray(done))
        return np.concatenate([*parts, np.asarray(ahead)], axis=1)[:, :points]

    def _latents_for(self, encoded: EncodedCloud, batch: int) -> tuple[BlockLatents, ...]:
        """Return the latents of an encoding for so many samples; raise ValueError where they do not fit."""
        samples = {array.shape[0] for latents in encoded.blocks for array in latents}
        shapes = [tuple(latents.q.shape[1:]) for latents in encoded.blocks]
        if shapes != self.latent_shapes:
            raise ValueError(
                f"the encoding has blocks of latents {_described(shapes)}, but this model has "
                f"{_described(self.latent_shapes)}; decode with the model that encoded the cloud"
            )
        if not samples <= {1, batch}:
            raise ValueError(
                f"the encoding has {max(samples)} samples, but the points have {batch}; give points of as many, or an "
                "encoding of one"
            )

        def of_samples(a: Array) -> Array:
            # An encoding of one sample is that of all, and one that another device has made serves on this one.
            return jnp.asarray(np.broadcast_to(np.asarray(a), (batch, *a.shape[1:])))

        return tuple(BlockLatents(*map(of_samples, block)) for block in encoded.blocks)

    def _entering(
        self,
        points: Cloud,
        mask: Mask | None,
        before: tuple[BlockLatents, ...],
        waiting: WaitingPoints | None,
        kept: bool = False,
        again: bool = False,
    ) -> Iterator[tuple[Array, Array]]:
        """Yield the pieces as they enter the block after those `before`, and which of their points are real.

        Where points wait, the first pass takes them on from the block before and keeps them if they are still wanted
        (`kept`), and another one (`again`) finds them as they are.
        """
        found = iter(waiting) if waiting is not None and (before or again) else None
        for number, (x, real) in enumerate(self._pieces(points, mask)):
            if found is None:
                y = self._advance(self._embedded(x, real), before)
            else:
                y = next(found) if again else _read(*self.blocks[len(before) - 1], before[-1], next(found))
            if kept and waiting is not None:
                waiting[number] = y
            yield y, real

    def _embedded(self, x: Array, real: Array) -> Array:
        """Return a piece as it enters the first block, bound to its device: so are pieces that have waited elsewhere,
        and programs are compiled again for arrays that are not."""
        y = _embed(*self.embedding, x, real)
        return jax.device_put(y, y.sharding)

    def _advance(self, x: Array, latents: tuple[BlockLatents, ...]) -> Array:
        for block, held in zip(self.blocks, latents, strict=False):  # those that the points have passed so far
            x = _read(*block, held, x)
        return x

    def _pieces(self, points: Cloud, mask: Mask | None) -> Iterator[tuple[Array, Array]]:
        """Yield pieces [B, n, C_in] of one size, the last one filled up, and masks of their real points."""
        size = min(self.size, points.shape[1])
        for start in range(0, points.shape[1], size):
            x = points[:, start : start + size]
            real = np.ones(x.shape[:2], bool) if mask is None else np.asarray(mask[:, start : start + size])
            ends = ((0, 0), (0, size - x.shape[1]))
            yield jnp.asarray(np.pad(np.asarray(x), (*ends, (0, 0)))), jnp.asarray(np.pad(real, ends))


class _Routing(nnx.Module):
    """The parts of a block that all FLARE models have, so that equal blocks share their compiled programs."""

    def __init__(self, norm1: nnx.Module, att: nnx.Module, norm2: nnx.Module, mlp: nnx.Module):
        self.norm1, self.att, self.norm2, self.mlp = norm1, att, norm2, mlp


def _latent_shape(att: Any) -> tuple[int, int, int]:
    return att.num_heads, att.num_latents, att.head_dim


def _only_routing(block: Any) -> _Routing:
    return _Routing(block.norm1, block.att, block.norm2, block.mlp)


def _described(shapes: list[tuple[int, ...]]) -> str:
    """Return how many blocks have which latents [H, M, D]."""
    return ", ".join(f"{shapes.count(shape)} × {list(shape)}" for shape in dict.fromkeys(shapes)) or "none"


_program = functools.partial(jax.jit, static_argnums=0)


@_program
def _embed(graphdef: nnx.GraphDef, state: Any, x: Array, real: Array) -> Array:
    return nnx.merge(graphdef, state)(zero_padding(x, real))


@_program
def _synthesis(graphdef: nnx.GraphDef, state: Any, x: Array, real: Array) -> Any:
    return steps.synthesis_sums(nnx.merge(graphdef, state), x, real)


@functools.partial(jax.jit, static_argnums=(0, 3))
def _queries(graphdef: nnx.GraphDef, state: Any, sums: Any, batch: int) -> Array:
    return steps.routing_queries(nnx.merge(graphdef, state), sums, batch)


@_program
def _gathered(graphdef: nnx.GraphDef, state: Any, q: Array, x: Array, real: Array) -> Any:
    return steps.gather_sums(nnx.merge(graphdef, state), q, x, real)


@_program
def _read(graphdef: nnx.GraphDef, state: Any, latents: BlockLatents, x: Array) -> Array:
    return steps.read_block(nnx.merge(graphdef, state), latents, x)


@_program
def _finish(graphdef: nnx.GraphDef, state: Any, x: Array) -> Array:
    return nnx.merge(graphdef, state)(x).astype(jnp.float32)


@jax.jit
def _merged(a: Any, b: Any) -> Any:
    return merge_sums(a, b)


def _add_up(pieces: Iterator[tuple[Array, Array]], sums_of: Callable[[Array, Array], Any]) -> Any:
    """Return the sums over all pieces."""
    total = None
    for x, real in pieces:
        before, sums = total, sums_of(x, real)
        total = sums if before is None else _merged(before, sums)
        # Calls return before they have run: without waiting, pieces would queue up on the device.
        jax.block_until_ready(before)
    return total

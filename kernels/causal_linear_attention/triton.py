"""Causal linear attention in two Triton kernels; the launches, one for each operation of the scheme."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from kernels._target import Target
from kernels._tiles import padded_width
from kernels._triton import fold_vmap, triton_call
from kernels.causal_linear_attention.recurrence import Backend
from kernels.causal_linear_attention.table import KernelBlocks


@dataclass(frozen=True)
class TritonBackend(Backend):
    """The two operations as kernels."""

    blocks: KernelBlocks
    target: Target

    def outer_sums(self, a: jax.Array, b: jax.Array) -> jax.Array:
        """Return `[B, H, splits, D, C]` float32."""
        return fold_vmap(functools.partial(self._outer_sums, self._split_points(a)))(a, b)

    def mix(
        self, q: jax.Array, k: jax.Array, v: jax.Array, starts: jax.Array, scale: float, reverse: bool
    ) -> jax.Array:
        """Return `[B, N, H, C]` in the dtype of v."""
        run = functools.partial(self._mix, self._split_points(q), scale, reverse)
        return fold_vmap(run)(q, k, v, starts)

    def _split_points(self, x: jax.Array) -> int:
        # Not of a batch that copies are folded into: what is kept for the backward pass has the splits of one copy.
        batch, points, heads, _ = x.shape
        return self.blocks.split_points(points, batch * heads)

    def _outer_sums(self, split_points: int, a: jax.Array, b: jax.Array) -> jax.Array:
        from kernels.causal_linear_attention.triton_kernels import sums_kernel

        batch, points, heads, width = a.shape
        columns = b.shape[-1]
        blocks, constants = self.blocks.sums, self._constants(a, b, self.blocks.sums.points, split_points)
        splits = pl.cdiv(points, split_points)
        (sums,) = triton_call(
            sums_kernel,
            name="causal_linear_sums",
            grid=(heads, splits, batch),
            out_shape=[jax.ShapeDtypeStruct((batch, heads, splits, width, columns), jnp.float32)],
            constants=constants | {"padded_columns": padded_width(columns)},
            num_warps=blocks.warps,
            num_stages=blocks.stages,
            target=self.target,
        )(a, b)
        return sums

    def _mix(
        self,
        split_points: int,
        scale: float,
        reverse: bool,
        q: jax.Array,
        k: jax.Array,
        v: jax.Array,
        starts: jax.Array,
    ) -> jax.Array:
        from kernels.causal_linear_attention.triton_kernels import mix_kernel

        batch, _, heads, _ = q.shape
        blocks, constants = self.blocks.mix, self._constants(q, v, self.blocks.mix.points, split_points)
        padded_columns = min(blocks.columns, padded_width(v.shape[-1]))
        tiles = pl.cdiv(v.shape[-1], padded_columns)
        (y,) = triton_call(
            mix_kernel,
            name="causal_linear_mix",
            grid=(heads * tiles, starts.shape[2], batch),
            out_shape=[jax.ShapeDtypeStruct(v.shape, v.dtype)],
            constants=constants
            | {"padded_columns": padded_columns, "tiles": tiles, "scale": scale, "reverse": reverse},
            num_warps=blocks.warps,
            num_stages=blocks.stages,
            target=self.target,
        )(q, k, v, starts)
        return y

    def _constants(self, a: jax.Array, b: jax.Array, block: int, split_points: int) -> dict[str, int | str]:
        """Return the sizes both kernels take; a is as wide as the queries, b as the values."""
        _, points, heads, width = a.shape
        return {
            "points": points,
            "heads": heads,
            "width": width,
            "columns": b.shape[-1],
            "split_points": split_points,
            "block": block,
            "padded_width": padded_width(width),
            "exact": self.blocks.exact if a.dtype == jnp.float32 else "ieee",
        }

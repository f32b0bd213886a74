"""Causal linear attention in two Triton kernels; the launches, one for each operation of the scheme."""

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
        return fold_vmap(self._outer_sums)(a, b)

    def mix(
        self, q: jax.Array, k: jax.Array, v: jax.Array, starts: jax.Array, scale: float, reverse: bool
    ) -> jax.Array:
        """Return `[B, N, H, C]` in the dtype of v."""
        return fold_vmap(lambda *operands: self._mix(*operands, scale, reverse))(q, k, v, starts)

    def _outer_sums(self, a: jax.Array, b: jax.Array) -> jax.Array:
        from kernels.causal_linear_attention.triton_kernels import sums_kernel

        batch, points, heads, width = a.shape
        columns = b.shape[-1]
        blocks, constants = self.blocks.sums, self._constants(a, b, self.blocks.sums.points)
        splits = pl.cdiv(points, constants["split_points"])
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
        self, q: jax.Array, k: jax.Array, v: jax.Array, starts: jax.Array, scale: float, reverse: bool
    ) -> jax.Array:
        from kernels.causal_linear_attention.triton_kernels import mix_kernel

        batch, _, heads, _ = q.shape
        blocks, constants = self.blocks.mix, self._constants(q, v, self.blocks.mix.points)
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

    def _constants(self, a: jax.Array, b: jax.Array, block: int) -> dict[str, int | str]:
        """Return the sizes both kernels take; a is as wide as the queries, b as the values."""
        batch, points, heads, width = a.shape
        return {
            "points": points,
            "heads": heads,
            "width": width,
            "columns": b.shape[-1],
            "split_points": self.blocks.split_points(points, batch * heads),
            "block": block,
            "padded_width": padded_width(width),
            "exact": self.blocks.exact if a.dtype == jnp.float32 else "ieee",
        }

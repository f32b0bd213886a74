"""The contractions of triple attention launched as Triton kernels through jax-triton (README.md, "Kernels")."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from kernels._target import Target
from kernels._triton import fold_vmap, triton_call
from kernels.triple_attention.table import Blocks, KernelBlocks
from kernels.triple_attention.tiling import Tiling


def _launcher(
    target: Target,
    kernel: Any,
    blocks: Blocks,
    tiling: Tiling,
    programs: int,
    out_shape: list[jax.ShapeDtypeStruct],
) -> Callable[..., list[jax.Array]]:
    constants = {
        "points": tiling.points,
        "heads": tiling.heads,
        "width": tiling.width,
        "channels": tiling.channels,
        "rows": tiling.rows,
        "slices": tiling.slices,
        "padded_width": tiling.padded_width,
        "padded_channels": tiling.padded_channels,
        "splits": tiling.splits,
        "tiles_per_split": tiling.tiles_per_split,
        "precision": blocks.exact,
    }
    return triton_call(
        kernel,
        target=target,
        name=f"triple_{kernel.__name__}",
        grid=(programs,),
        out_shape=out_shape,
        constants={name: value for name, value in constants.items() if name in kernel.arg_names},
        num_warps=blocks.warps,
        num_stages=blocks.stages,
    )


@dataclass(frozen=True)
class TritonContractions:
    """Contractions whose launches are `blocks`."""

    blocks: KernelBlocks
    target: Target

    def accumulate(self, a: jax.Array, b: jax.Array, x: jax.Array) -> jax.Array:
        """See `Contractions.accumulate`."""
        return fold_vmap(self._accumulate)(a, b, x)

    def read(self, a: jax.Array, b: jax.Array, state: jax.Array) -> jax.Array:
        """See `Contractions.read`."""
        return fold_vmap(self._read)(a, b, state)

    def pair(self, x: jax.Array, a: jax.Array, b: jax.Array, state: jax.Array) -> tuple[jax.Array, jax.Array]:
        """See `Contractions.pair`."""
        return fold_vmap(self._pair)(x, a, b, state)

    def _accumulate(self, a: jax.Array, b: jax.Array, x: jax.Array) -> jax.Array:
        from kernels.triple_attention.triton_kernels import accumulate_kernel

        blocks = self.blocks.accumulate
        tiling = Tiling.create(blocks, a.shape, x.shape[-1])
        programs = tiling.batch * tiling.splits * tiling.chunks * tiling.heads
        (partial,) = _launcher(self.target, accumulate_kernel, blocks, tiling, programs, [tiling.partial_shape])(
            a, b, x
        )
        return tiling.merge(partial)

    def _read(self, a: jax.Array, b: jax.Array, state: jax.Array) -> jax.Array:
        from kernels.triple_attention.triton_kernels import read_kernel

        blocks = self.blocks.read
        tiling = Tiling.create(blocks, a.shape, state.shape[3])
        programs = tiling.batch * tiling.tiles * tiling.heads
        shape = jax.ShapeDtypeStruct((*a.shape[:3], tiling.channels), a.dtype)
        (y,) = _launcher(self.target, read_kernel, blocks, tiling, programs, [shape])(
            a, b, tiling.rows_of_width(state, a.dtype)
        )
        return y

    def _pair(self, x: jax.Array, a: jax.Array, b: jax.Array, state: jax.Array) -> tuple[jax.Array, jax.Array]:
        from kernels.triple_attention.triton_kernels import pair_kernel

        blocks = self.blocks.pair
        tiling = Tiling.create(blocks, a.shape, x.shape[-1])
        programs = tiling.batch * tiling.tiles * tiling.heads
        shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype)] * 2
        launch = _launcher(self.target, pair_kernel, blocks, tiling, programs, shapes)
        da, db = launch(x, a, b, tiling.rows_of_channels(state, a.dtype))
        return da, db

"""Grid and block specifications of the causal kernels: which part of each array a program sees.

The grid is (heads, splits of the tokens, batch) with heads varying fastest, so that programs which run at the same time
read neighbouring heads of the same tokens. A program owns one tile of latents and walks over the tokens of its split.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from kernels._pallas import Operand, Output, pallas_call
from kernels._target import Target
from kernels._tile_products import Products
from kernels._tiles import LOG2_E, padded_width
from kernels.causal_flare.operands import Operands
from kernels.causal_flare.table import Blocks
from kernels.causal_flare.tile import Dot, Latents, Tokens


@dataclass(frozen=True)
class Layout:
    """Sizes of one launch over all heads, the tokens in splits and one tile of latents."""

    blocks: Blocks
    batch: int
    points: int
    heads: int
    latents: int
    width: int
    channels: int
    decode_width: int | None
    masked: bool
    sum_dtype: jnp.dtype
    target: Target

    @classmethod
    def create(cls, blocks: Blocks, latents: Latents, operands: Operands, target: Target) -> "Layout":
        """Return the layout for a tile of latents and all tokens."""
        batch, points, heads, width = operands.k.shape
        decode_width = operands.k_decode.shape[-1] if operands.separate else None
        return cls(
            blocks,
            batch,
            points,
            heads,
            latents.bias.shape[0],
            width,
            operands.v.shape[-1],
            decode_width,
            operands.mask is not None,
            # One tile of latents is no sum that would have to be kept in float32: it is rounded where it is computed.
            operands.v.dtype if operands.q.shape[1] <= latents.bias.shape[0] else jnp.dtype(jnp.float32),
            target,
        )

    @property
    def dot(self) -> Dot:
        """The product of two tiles."""
        return functools.partial(self.products.dot, exact=self.blocks.exact)

    @property
    def products(self) -> Products:
        """What the target offers for arithmetic."""
        return Products(self.target.compiled, cuda=self.target.platform == "cuda")

    def exp(self, x: jax.Array) -> jax.Array:
        """Return the exponential; results below 2⁻¹²⁶ may be zero."""
        return self.products.exp2(LOG2_E * x)

    @property
    def split_tokens(self) -> int:
        return self.blocks.split_tokens(self.points, self.batch * self.heads)

    @property
    def splits(self) -> int:
        return pl.cdiv(self.points, self.split_tokens)

    @property
    def steps(self) -> int:
        """Short tiles per split."""
        return self.split_tokens // self.blocks.tokens

    def token_rows(self, width: int) -> pl.BlockSpec:
        """Return the specification of `[B, N, H, width]`."""
        return pl.BlockSpec((None, self.split_tokens, None, padded_width(width)), lambda h, s, b: (b, s, h, 0))

    def token_scalars(self) -> pl.BlockSpec:
        """Return the specification of `[B, H, N]`."""
        return pl.BlockSpec((None, None, self.split_tokens), lambda h, s, b: (b, h, s))

    def token_inputs(self, tokens: Tokens) -> Tokens:
        """Return the specifications of the arrays in `tokens`, which hold all tokens; `valid` is `[B, N]`."""
        rows = {name: _spec(getattr(tokens, name), self.token_rows) for name in ("k", "v", "k_decode", "dy")}
        names = ("read_maximum", "read_mass", "mean", "log_decay")
        scalars = {name: None if getattr(tokens, name) is None else self.token_scalars() for name in names}
        mask = pl.BlockSpec((None, self.split_tokens), lambda h, s, b: (b, s)) if self.masked else None
        return Tokens(valid=mask, **rows, **scalars)

    def latent_inputs(self, latents: Latents) -> Latents:
        """Return the specifications of a tile of latents."""

        def rows(width: int) -> pl.BlockSpec:
            return pl.BlockSpec((None, self.latents, padded_width(width)), lambda h, s, b: (h, 0, 0))

        bias = pl.BlockSpec((self.latents,), lambda h, s, b: (0,))
        return Latents(rows(self.width), _spec(latents.q_decode, rows), bias)

    def split_vectors(self) -> Output:
        """Return `[B, H, splits, m]`."""
        spec = pl.BlockSpec((None, None, None, self.latents), lambda h, s, b: (b, h, s, 0))
        return Output((self.batch, self.heads, self.splits, self.latents), jnp.float32, spec)

    def split_rows(self, width: int) -> Output:
        """Return `[B, H, splits, m, width]`."""
        block = (None, None, None, self.latents, padded_width(width))
        shape = (self.batch, self.heads, self.splits, self.latents, width)
        return Output(shape, jnp.float32, pl.BlockSpec(block, lambda h, s, b: (b, h, s, 0, 0)))

    def token_output(self, width: int) -> Output:
        """Return `[B, N, H, width]`, what one tile of latents adds."""
        return Output((self.batch, self.points, self.heads, width), self.sum_dtype, self.token_rows(width))

    def scalar_output(self) -> Output:
        """Return `[B, H, N]`."""
        return Output((self.batch, self.heads, self.points), jnp.float32, self.token_scalars())

    def slope_output(self) -> Output:
        """Return `[B, H, m, N]`."""
        spec = pl.BlockSpec((None, None, self.latents, self.split_tokens), lambda h, s, b: (b, h, 0, s))
        return Output((self.batch, self.heads, self.latents, self.points), jnp.float32, spec)

    def step_output(self) -> Output:
        """Return `[B, H, tiles, m]`, tiles of all splits."""
        spec = pl.BlockSpec((None, None, self.steps, self.latents), lambda h, s, b: (b, h, s, 0))
        return Output((self.batch, self.heads, self.splits * self.steps, self.latents), jnp.float32, spec)

    def launch(self, kernel: Callable[..., None], name: str, inputs: Any, specs: Any, outputs: Any) -> Any:
        """Run `kernel(input refs, output refs)` on trees of arrays; returns the tree of outputs."""
        return pallas_call(
            kernel,
            target=self.target,
            name=name,
            grid=(self.heads, self.splits, self.batch),
            inputs=jax.tree.map(Operand, inputs, specs),
            outputs=outputs,
            warps=self.blocks.warps_of(self.latents),
            stages=self.blocks.stages,
        )


def _spec(x: jax.Array | None, rows: Callable[[int], pl.BlockSpec]) -> pl.BlockSpec | None:
    return None if x is None else rows(x.shape[-1])

"""What one program of the causal kernels does with memory: its tiles of tokens, masked loads and stores."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from kernels._tiles import load_rows, load_vector, store_rows, store_vector
from kernels._triton_lowering import plt
from kernels.causal_flare.factored import Arithmetic, Span
from kernels.causal_flare.operands import State
from kernels.causal_flare.pallas_layout import Layout
from kernels.causal_flare.tile import Dot, Future, Latents, Tokens


@dataclass(frozen=True)
class Program:
    """The program of one head, one split and one sample; made at the top of a kernel, outside all loops."""

    layout: Layout
    split: jax.Array

    @classmethod
    def create(cls, layout: Layout) -> "Program":
        """Return the program that is running."""
        return cls(layout, pl.program_id(1))

    @property
    def dot(self) -> Dot:
        return self.layout.dot

    @property
    def arithmetic(self) -> Arithmetic:
        """How tiles are multiplied, and plain exponentials and reciprocals."""
        return Arithmetic(self.dot, self.layout.exp, self.layout.products.reciprocal)

    def tiles(self, size: int) -> jax.Array | int:
        """Return how many tiles of `size` tokens the split has; the last one may be shorter."""
        tiles, per_split = pl.cdiv(self.layout.points, size), self.layout.split_tokens // size
        return per_split if tiles % per_split == 0 else jnp.minimum(per_split, tiles - self.split * per_split)

    def existing(self, start: jax.Array, size: int) -> jax.Array | None:
        """Return which of the `size` tokens from `start` exist, None where all do."""
        if self.layout.points % size == 0:
            return None
        return start + jnp.arange(size, dtype=jnp.int32) < self.layout.points - self.split * self.layout.split_tokens

    def load_latents(self, refs: Latents) -> Latents:
        """Load the tile of latents of this program."""
        q = load_rows(refs.q, 0, self.layout.latents, self.layout.width, None)
        if refs.q_decode is None:
            return Latents(q, None, plt.load(refs.bias))
        return Latents(
            q, load_rows(refs.q_decode, 0, self.layout.latents, self.layout.decode_width, None), plt.load(refs.bias)
        )

    def load_tokens(self, refs: Tokens, start: jax.Array, size: int) -> Tokens:
        """Load `size` tokens; those that do not exist or are masked are zeros and never read."""
        valid = existing = self.existing(start, size)
        if refs.valid is not None:
            valid = self._load_mask(refs.valid, start, size, existing)

        def rows(ref: Any, width: int | None) -> jax.Array | None:
            return None if ref is None else load_rows(ref, start, size, width, valid)

        def scalars(ref: Any, other: float) -> jax.Array | None:
            return None if ref is None else load_vector(ref, start, size, valid, other)

        return Tokens(
            rows(refs.k, self.layout.width),
            rows(refs.v, self.layout.channels),
            rows(refs.k_decode, self.layout.decode_width),
            valid,
            scalars(refs.read_maximum, jnp.inf),
            scalars(refs.read_mass, 1.0),
            rows(refs.dy, self.layout.channels),
            scalars(refs.mean, 0.0),
            scalars(refs.log_decay, 0.0),
        )

    def _load_mask(self, ref: Any, start: jax.Array, size: int, existing: jax.Array | None) -> jax.Array:
        view = ref.at[pl.ds(start, size)]
        return plt.load(view) != 0 if existing is None else plt.load(view, mask=existing, other=0) != 0

    def stored(self, start: jax.Array, size: int, span: Span | None) -> jax.Array | None:
        """Return which of the `size` tokens from `start` exist and are in the span, None where all are."""
        existing = self.existing(start, size)
        if span is None:
            return existing
        order = jnp.arange(size, dtype=jnp.int32)
        inside = (order >= span.first) & (order < span.last)
        return inside if existing is None else inside & existing

    def load_state(self, refs: State) -> State:
        """Load the state of this program's split."""
        total = load_rows(refs.total, 0, self.layout.latents, self.layout.channels, None)
        return State(plt.load(refs.maximum), plt.load(refs.mass), total)

    def load_future(self, refs: Future) -> Future:
        """Load what later tokens say about the end of this program's split."""
        return Future(load_rows(refs.values, 0, self.layout.latents, self.layout.channels, None), plt.load(refs.slopes))

    def store_tokens(self, ref: Any, start: jax.Array, value: jax.Array, width: int, span: Span) -> None:
        """Store the rows of the tokens of a span that exist."""
        store_rows(ref, start, value, width, self.stored(start, value.shape[0], span))

    def store_scalars(self, ref: Any, start: jax.Array, value: jax.Array, span: Span | None = None) -> None:
        """Store one number for each token, of a span if one is given, that exists."""
        store_vector(ref, start, value, self.stored(start, value.shape[0], span))

    def load_slopes(self, ref: Any, start: jax.Array, size: int) -> jax.Array:
        """Load `[m, size]` numbers, one for each latent and token."""
        view, existing = ref.at[:, pl.ds(start, size)], self.existing(start, size)
        return plt.load(view) if existing is None else plt.load(view, mask=self._each_latent(existing), other=0.0)

    def store_slopes(self, ref: Any, start: jax.Array, value: jax.Array, span: Span) -> None:
        """Store `[m, size]` numbers, one for each latent and existing token of a span."""
        size = value.shape[1]
        plt.store(ref.at[:, pl.ds(start, size)], value, mask=self._each_latent(self.stored(start, size, span)))

    def _each_latent(self, which: jax.Array) -> jax.Array:
        return jnp.broadcast_to(which[None, :], (self.layout.latents, which.shape[0]))

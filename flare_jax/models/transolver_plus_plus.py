"""Transolver++: slices chosen with a temperature per point and, in training, Gumbel noise (arXiv 2502.02414)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_integer, check_uniforms
from flare_jax.layers.dropout import Key, split_key
from flare_jax.mixers.adaptive_slice_attention import AdaptiveSliceAttention
from flare_jax.models.slice_stack import SliceStack

EVALUATION_SEED = 0


class TransolverPlusPlus(SliceStack):
    """Transolver++ on any set of points; options are those of Transolver without the structured grids.

    Noise is drawn from the `key` of the call. Without a key, in evaluation, there is none, and the prediction is
    deterministic; `eval_noise` keeps the noise of the original there, drawn from a fixed key.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        channel_dim: int = 256,
        num_blocks: int = 5,
        num_heads: int = 8,
        num_slices: int = 32,
        act: str = "gelu",
        mlp_ratio: float = 1.0,
        fun_dim: int = 0,
        dropout: float = 0.0,
        eval_noise: bool = False,
        orthogonal_slice_init: bool = False,
        remat: bool = False,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.eval_noise = eval_noise
        self.num_heads, self.num_slices = num_heads, num_slices

        def make_mixer() -> AdaptiveSliceAttention:
            return AdaptiveSliceAttention(
                channel_dim,
                num_heads=num_heads,
                num_slices=num_slices,
                orthogonal_slice_init=orthogonal_slice_init,
                drop_rate=dropout,
                dtype=dtype,
                rngs=rngs,
            )

        super().__init__(
            in_dim,
            out_dim,
            channel_dim=channel_dim,
            mixers=[make_mixer() for _ in range(check_integer("num_blocks", num_blocks))],
            mlp_ratio=mlp_ratio,
            act=act,
            fun_dim=fun_dim,
            always_placeholder=True,
            remat=remat,
            dtype=dtype,
            rngs=rngs,
        )

    def __call__(
        self,
        x: Float[Array, "B N C_in"],
        mask: Bool[Array, "B N"] | None = None,
        *,
        fx: Float[Array, "B N C_fun"] | None = None,
        key: Key | None = None,
        uniforms: Sequence[Float[Array, "B H N M"]] | None = None,
    ) -> Float[Array, "B N C_out"]:
        """Return the prediction in float32; `key` is for noise and dropout, None in evaluation.

        `uniforms`, one array of [0, 1) per block, are made into the noise instead of draws from the key. Masks and
        errors are those of Transolver; also raises ValueError for `uniforms` of another number or shape.
        """
        check_uniforms(uniforms, x.shape, num_blocks=len(self.blocks), heads=self.num_heads, slices=self.num_slices)
        embedded = self.embed(x, mask, fx)
        keys = split_key(key, len(self.blocks))
        if uniforms is None and key is None and self.eval_noise:
            uniforms = self._evaluation_draws(x.shape)
        return self.apply_blocks(embedded, mask, keys, uniforms)

    def _evaluation_draws(self, shape: tuple[int, ...]) -> list[Float[Array, "B H N M"]]:
        """Return one fixed draw per block, the same for each sample, whatever the batch and the padding after it."""
        block_keys = jax.random.split(jax.random.key(EVALUATION_SEED), len(self.blocks))

        def draw(block_key: Array, point: Array) -> Array:
            return jax.random.uniform(jax.random.fold_in(block_key, point), (self.num_heads, self.num_slices))

        per_point = jax.vmap(draw, in_axes=(None, 0), out_axes=1)
        draws = [per_point(block_key, jnp.arange(shape[1])) for block_key in block_keys]
        return [jnp.broadcast_to(values, (shape[0], *values.shape)) for values in draws]

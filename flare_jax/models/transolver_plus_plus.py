"""Transolver++: slices chosen with a temperature per point and, in training, Gumbel noise (arXiv 2502.02414)."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_uniforms
from flare_jax.layers.dropout import Key
from flare_jax.mixers.adaptive_slice_attention import AdaptiveSliceAttention
from flare_jax.mixers.slice_attention import SliceConfig
from flare_jax.models.slice_stack import InputConfig, SliceStack, SliceStackConfig
from flare_jax.options import option

EVALUATION_SEED = 0


@dataclass(frozen=True, kw_only=True)
class TransolverPlusPlusConfig(InputConfig, SliceConfig, SliceStackConfig):
    """Options of Transolver++."""

    eval_noise: bool = option(False, help="keep the original's noise in evaluation, drawn from a fixed key")


class TransolverPlusPlus(SliceStack):
    """Transolver++ on any set of points; options are those of Transolver without the structured grids.

    Noise is drawn from the `key` of the call. Without a key, in evaluation, there is none, and the prediction is
    deterministic; `eval_noise` keeps the noise of the original there, drawn from a fixed key.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        config: TransolverPlusPlusConfig,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.eval_noise = config.eval_noise
        self.num_heads, self.num_slices = config.num_heads, config.num_slices
        mixers = [
            AdaptiveSliceAttention(config.channel_dim, config, dtype=dtype, rngs=rngs) for _ in range(config.num_blocks)
        ]
        super().__init__(in_dim, out_dim, config, mixers=mixers, always_placeholder=True, dtype=dtype, rngs=rngs)

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
        if uniforms is None and key is None and self.eval_noise:
            uniforms = self._evaluation_draws(x.shape)
        return self.predict(self.apply_blocks(embedded, mask, key, beside=uniforms)[0])

    def _evaluation_draws(self, shape: tuple[int, ...]) -> list[Float[Array, "B H N M"]]:
        """Return one fixed draw per block, the same for each sample, whatever the batch and the padding after it."""
        block_keys = jax.random.split(jax.random.key(EVALUATION_SEED), len(self.blocks))

        def draw(block_key: Array, point: Array) -> Array:
            return jax.random.uniform(jax.random.fold_in(block_key, point), (self.num_heads, self.num_slices))

        per_point = jax.vmap(draw, in_axes=(None, 0), out_axes=1)
        draws = [per_point(block_key, jnp.arange(shape[1])) for block_key in block_keys]
        return [jnp.broadcast_to(values, (shape[0], *values.shape)) for values in draws]

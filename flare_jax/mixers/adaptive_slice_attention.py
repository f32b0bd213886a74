"""Slice attention with a temperature per point and Gumbel noise on the logits (Transolver++, arXiv 2502.02414)."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_head_dim
from flare_jax.layers.activations import gelu_erf
from flare_jax.layers.dropout import Key, dropout, split_key
from flare_jax.layers.initializers import filled
from flare_jax.layers.linear import Linear
from flare_jax.layers.pointwise_mlp import PointwiseMLP
from flare_jax.mixers.slice_attention import INITIAL_TEMPERATURE, SliceConfig, mix_slices, slice_projection
from flare_jax.mixers.slice_tokens import SliceTokenAttention, slice_logits, slice_weights
from flare_jax.options import Config, option

SMALLEST_TEMPERATURE = 0.01
EVALUATION_SEED = 0
GUMBEL_EPSILON = 1e-8


@dataclass(frozen=True, kw_only=True)
class EvaluationNoiseConfig(Config):
    """The option of the models with this mixer."""

    eval_noise: bool = option(
        True,
        help="noise in evaluation as in training, drawn from a fixed key; without it errors are often twice as large",
    )


class AdaptiveSliceAttention(nnx.Module):
    """Token mixer of cost O(N·M): like slice attention, with one projection w of the points for slices and values.

    Slice weights are `softmax_M((slice_proj w + noise) / τ)` with `τ = max(gelu(mlp w) + bias, 0.01)` per point and
    head. The noise is Gumbel(0, 1), which makes the weights a sample of a relaxed choice of slice.
    """

    def __init__(self, channel_dim: int, config: SliceConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        num_heads, num_slices = config.num_heads, config.num_slices
        self.head_dim = check_head_dim(channel_dim, num_heads)
        self.drop_rate = config.dropout
        self.point_proj = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)
        self.slice_proj = slice_projection(
            self.head_dim, num_slices, orthogonal=config.orthogonal_slice_init, dtype=dtype, rngs=rngs
        )
        self.temperature_mlp = PointwiseMLP(self.head_dim, num_slices, 1, dtype=dtype, rngs=rngs)
        self.temperature_bias = nnx.Param(filled((1, num_heads, 1, 1), INITIAL_TEMPERATURE))
        self.token_mixer = SliceTokenAttention(channel_dim, num_heads=num_heads, dtype=dtype, rngs=rngs)
        self.out_proj = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "B N C"],
        mask: Bool[Array, "B N"] | None = None,
        key: Key | None = None,
        uniforms: Float[Array, "B H N M"] | None = None,
    ) -> Float[Array, "B N C"]:
        """Mix the real points of each sample, which must be finite also in the padding.

        With a `key` there is noise and dropout. `uniforms` of [0, 1) replace the draw of the noise; without both there
        is no noise.
        """
        noise_key, dropout_key = split_key(key, 2)
        points = self.point_proj(x)
        points = points.reshape(*x.shape[:2], -1, self.head_dim)
        logits = slice_logits(points, self.slice_proj)
        if uniforms is not None:
            logits = logits + gumbel_noise(uniforms.swapaxes(1, 2))
        elif noise_key is not None:
            logits = logits + gumbel_noise(jax.random.uniform(noise_key, logits.shape))
        weights = slice_weights(logits / self._temperature(points), mask)
        y = mix_slices(weights, points, self.token_mixer)
        return dropout(self.out_proj(y), self.drop_rate, dropout_key)

    def _temperature(self, points: Float[Array, "B N H D"]) -> Float[Array, "B N H 1"]:
        learned = gelu_erf(self.temperature_mlp(points)).astype(jnp.float32)
        return jnp.maximum(learned + self.temperature_bias[...].reshape(-1, 1), SMALLEST_TEMPERATURE)


def evaluation_draws(shape: tuple[int, ...], *, blocks: int, heads: int, slices: int) -> list[Float[Array, "B H N M"]]:
    """Return for points of `shape` one fixed draw per block, the same for all samples, whatever padding follows."""
    block_keys = jax.random.split(jax.random.key(EVALUATION_SEED), blocks)

    def draw(block_key: Array, point: Array) -> Array:
        return jax.random.uniform(jax.random.fold_in(block_key, point), (heads, slices))

    per_point = jax.vmap(draw, in_axes=(None, 0), out_axes=1)
    draws = [per_point(block_key, jnp.arange(shape[1])) for block_key in block_keys]
    return [jnp.broadcast_to(values, (shape[0], *values.shape)) for values in draws]


def gumbel_noise(uniforms: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return `−log(−log(U + 1e-8) + 1e-8)`, Gumbel(0, 1) noise of uniform draws from [0, 1), in float32."""
    uniforms = uniforms.astype(jnp.float32)
    return -jnp.log(-jnp.log(uniforms + GUMBEL_EPSILON) + GUMBEL_EPSILON)

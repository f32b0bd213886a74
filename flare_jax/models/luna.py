"""Luna on points: packed latents that accompany the points through all blocks (arXiv 2106.01540)."""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.layers.dropout import Key
from flare_jax.layers.initializers import normal
from flare_jax.layers.norms import FLAREPP_RMS_NORM_EPSILON, make_norm
from flare_jax.mixers.attention_statistics import root_mean_square
from flare_jax.mixers.packed_attention import PackedAttention, PackedConfig
from flare_jax.models.mixer_stack import MixerStack, MixerStackConfig, Statistics, feed_forward, mixer_statistics

# The points and the packed latents.
Streams = tuple[Float[Array, "B N C"], Float[Array, "B M C"]]


@dataclass(frozen=True, kw_only=True)
class LunaConfig(MixerStackConfig, PackedConfig):
    """Options of Luna."""


class LunaBlock(nnx.Module):
    """Pre-norm block of points x and packed latents p: `x + yx`, `p + yp` of the mixer, then `x + mlp(norm2 x)`."""

    def __init__(self, config: LunaConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        norm = {"rmsnorm": config.rmsnorm, "rms_epsilon": FLAREPP_RMS_NORM_EPSILON, "dtype": dtype}
        self.norm1, self.norm_packed, self.norm2 = (make_norm(config.channel_dim, **norm) for _ in range(3))
        self.att = PackedAttention(config, dtype=dtype, rngs=rngs)
        self.mlp = feed_forward(config, dtype=dtype, rngs=rngs)

    def __call__(self, streams: Streams, mask: Bool[Array, "B N"] | None = None, key: Key | None = None) -> Streams:
        """Return points and packed latents after the block, which draws nothing from `key`."""
        x, packed = streams
        read, gathered = self.att(self.norm1(x), self.norm_packed(packed), mask)
        return self.mlp(x + read, norm=self.norm2, outer_residual=True), packed + gathered

    def statistics(
        self, streams: Streams, mask: Bool[Array, "B N"] | None = None, key: Key | None = None
    ) -> Statistics:
        """Return root mean squares of what enters and leaves the mixer."""
        x, packed = streams
        normed = self.norm1(x)
        read, _ = self.att(normed, self.norm_packed(packed), mask)
        return mixer_statistics(root_mean_square(normed, mask), root_mean_square(read, mask))


class Luna(MixerStack):
    """Luna, pre-norm and with separate keys and values; its packed latents start as the parameter `packed_embed`."""

    def __init__(
        self, in_dim: int, out_dim: int, config: LunaConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
    ):
        blocks = [LunaBlock(config, dtype=dtype, rngs=rngs) for _ in range(config.num_blocks)]
        super().__init__(in_dim, out_dim, config, blocks=blocks, dtype=dtype, rngs=rngs)
        shape = (config.num_latents, config.channel_dim)
        self.packed_embed = nnx.Param(normal(config.channel_dim**-0.5)(rngs.params(), shape))

    def __call__(
        self, x: Float[Array, "B N C_in"], mask: Bool[Array, "B N"] | None = None, *, return_statistics: bool = False
    ) -> Float[Array, "B N C_out"] | tuple[Float[Array, "B N C_out"], dict[str, object]]:
        """Return the prediction, and the statistics where asked for, as `MixerStack` does."""
        return self.apply(x, mask, None, None, return_statistics)

    def embed(self, x: Float[Array, "B N C_in"], mask: Bool[Array, "B N"] | None) -> Streams:
        """Check the inputs of the call and return the embedded points beside the packed latents."""
        x = super().embed(x, mask)
        return x, jnp.broadcast_to(self.packed_embed[...].astype(self.dtype), (x.shape[0], *self.packed_embed.shape))

    def predict(self, x: Streams) -> Float[Array, "B N C_out"]:
        """Return the prediction in float32 from the points after the last block."""
        return super().predict(x[0])

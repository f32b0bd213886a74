"""Luna's attention: packed latents read the points, points read the packed latents (arXiv 2106.01540)."""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.layers.linear import Linear
from flare_jax.layers.norms import FLAREPP_RMS_NORM_EPSILON, make_norm
from flare_jax.mixers.gather_points import by_points, gather_points, read_latents
from flare_jax.mixers.heads import merge_heads, split_heads
from flare_jax.option_groups import LatentConfig, routing_kernel
from flare_jax.options import option


@dataclass(frozen=True, kw_only=True)
class PackedConfig(LatentConfig):
    """Options of Luna's attention; the latents are M vectors of all channels."""

    qk_norm: bool = option(False, help="normalise queries and keys of both steps per head, by the same two norms")
    implementation: str | None = routing_kernel("the packing")


class PackedAttention(nnx.Module):
    """Pack `yp = softmax_N(s q(p) k(x)ᵀ) v(x)` of M latents p, unpack `softmax_M(s q(x) k(yp)ᵀ) v(yp)`, s = 1/√D.

    The two steps have projections of their own. Source: Luna, with separate keys and values.
    """

    def __init__(self, config: PackedConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.num_heads, self.scale = config.heads, config.head_dim**-0.5
        self.implementation = config.implementation

        def linear() -> Linear:
            return Linear(config.channel_dim, config.channel_dim, dtype=dtype, rngs=rngs)

        self.pack_q_proj, self.pack_k_proj, self.pack_v_proj = linear(), linear(), linear()
        self.q_proj, self.k_proj, self.v_proj = linear(), linear(), linear()
        norm = {"rmsnorm": config.rmsnorm, "rms_epsilon": FLAREPP_RMS_NORM_EPSILON, "dtype": dtype}
        self.q_norm = make_norm(config.head_dim, **norm) if config.qk_norm else None
        self.k_norm = make_norm(config.head_dim, **norm) if config.qk_norm else None
        self.out_proj = linear()

    def __call__(
        self, x: Float[Array, "B N C"], packed: Float[Array, "B M C"], mask: Bool[Array, "B N"] | None = None
    ) -> tuple[Float[Array, "B N C"], Float[Array, "B M C"]]:
        """Return what the points read, after `out_proj`, and what the latents gathered from the real points."""
        q = self._heads(self.pack_q_proj(packed), self.q_norm)
        k, v = self._heads(self.pack_k_proj(x), self.k_norm), self._heads(self.pack_v_proj(x))
        options = {"scale": self.scale, "implementation": self.implementation}
        gathered = by_points(gather_points(by_points(q), k, v, mask, **options))
        packed = merge_heads(gathered).astype(x.dtype)
        q = self._heads(self.q_proj(x), self.q_norm)
        k, v = self._heads(self.k_proj(packed), self.k_norm), self._heads(self.v_proj(packed))
        return self.out_proj(merge_heads(read_latents(q, k, v, scale=self.scale))), packed

    def _heads(self, x: Float[Array, "B N C"], norm: nnx.Module | None = None) -> Float[Array, "B N H D"]:
        heads = split_heads(x, self.num_heads)
        return heads if norm is None else norm(heads)

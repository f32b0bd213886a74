"""What the mixers share that read a polynomial state of the sequence: projections, feature map, norm and output."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_depths, check_dtype
from flare_jax.layers.dropout import Key, check_rate, dropout
from flare_jax.layers.feature_maps import make_feature_map, unit
from flare_jax.layers.linear import Linear
from flare_jax.layers.norms import make_norm
from flare_jax.layers.residual_mlp import ResidualMLP, apply_branches
from flare_jax.mixers.heads import check_attention_heads, merge_heads, split_heads


@dataclass(frozen=True)
class StateOptions:
    """Options of every mixer with a polynomial state.

    Queries, keys and values are residual MLPs C → C → C with `num_layers_kv_proj` inner layers (-1: one linear layer)
    and the activation `act`. The feature map `kernel` acts per head on queries and keys; `qk_dim_ratio` sets the width
    of learnable maps. `norm_q` and `norm_k` then divide queries and keys by their length. `rmsnorm` is the kind of the
    norm before the output projection, `proj_drop` the dropout rate after it, and `mlp_implementation` names the kernel
    of the projections (`kernels.residual_mlp`; None chooses).
    """

    kernel: str = "identity"
    norm_q: bool = False
    norm_k: bool = False
    qk_dim_ratio: float = 1.0
    num_layers_kv_proj: int = -1
    act: str | None = None
    rmsnorm: bool = False
    proj_drop: float = 0.0
    mlp_implementation: str | None = None


class StateAttention(nnx.Module):
    """Base of the mixers whose cost is linear in N because tokens meet in sums over the sequence only.

    `num_heads` defaults to `channel_dim // 16`.
    """

    def __init__(
        self,
        channel_dim: int,
        *,
        num_heads: int | None = None,
        options: StateOptions,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_depths(num_layers_kv_proj=options.num_layers_kv_proj)
        self.num_heads, self.head_dim = check_attention_heads(channel_dim, num_heads)
        self.options = options
        self.dtype = check_dtype(dtype)
        self.kernel = make_feature_map(
            options.kernel, self.head_dim, qk_dim_ratio=options.qk_dim_ratio, dtype=dtype, rngs=rngs
        )
        self.norm = make_norm(channel_dim, rmsnorm=options.rmsnorm, dtype=dtype)
        self.out_proj = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)
        self.proj_drop = check_rate("proj_drop", options.proj_drop)

    def make_projection(self, rngs: nnx.Rngs) -> ResidualMLP:
        """Return a new projection of the tokens to queries, keys or values."""
        channel_dim = self.num_heads * self.head_dim
        return ResidualMLP(
            channel_dim,
            channel_dim,
            channel_dim,
            num_layers=self.options.num_layers_kv_proj,
            act=self.options.act,
            dtype=self.dtype,
            implementation=self.options.mlp_implementation,
            rngs=rngs,
        )

    def project(
        self,
        x: Float[Array, "B N C"],
        mask: Bool[Array, "B N"] | None,
        *,
        queries: Sequence[ResidualMLP],
        keys: Sequence[ResidualMLP],
        values: Sequence[ResidualMLP],
    ) -> tuple[list[Float[Array, "B N H _"]], list[Float[Array, "B N H _"]], list[Float[Array, "B N H D"]]]:
        """Return queries, keys and values per head, with features of queries and keys, and zeros for padded tokens."""
        heads = [split_heads(part, self.num_heads) for part in apply_branches([*queries, *keys, *values], x)]
        first_value = len(queries) + len(keys)
        q = [self._features(part, self.options.norm_q) for part in heads[: len(queries)]]
        k = [self._features(part, self.options.norm_k) for part in heads[len(queries) : first_value]]
        v = heads[first_value:]
        if mask is not None:
            real = mask[:, :, None, None]
            q, k, v = jax.tree.map(lambda part: jnp.where(real, part, 0), (q, k, v))
        return q, k, v

    def _features(self, x: Float[Array, "B N H D"], normalize: bool) -> Float[Array, "B N H _"]:
        features = self.kernel(x)
        return (unit(features) if normalize else features).astype(self.dtype)

    def output(self, y: Float[Array, "B N H D"], key: Key | None) -> Float[Array, "B N C"]:
        """Return the merged heads after the norm, the output projection and dropout."""
        return dropout(self.out_proj(self.norm(merge_heads(y))), self.proj_drop, key)


def mean_outer_product(k: Float[Array, "B N H D_k"], v: Float[Array, "B N H D_v"]) -> Float[Array, "B H D_k D_v"]:
    """Return `1/N Σ_n k_n v_nᵀ` per head in float32, with N the length of the arrays, padding included."""
    return jnp.einsum("bnhi,bnhj->bhij", k, v, preferred_element_type=jnp.float32) / v.shape[1]

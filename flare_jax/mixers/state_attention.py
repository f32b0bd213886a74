"""What the mixers share that read a polynomial state of the sequence: projections, feature map, norm and output."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_dtype, scaled_width
from flare_jax.layers.activations import RESIDUAL_MLP_ACTIVATIONS
from flare_jax.layers.dropout import Key, dropout, refuse_attention_dropout
from flare_jax.layers.feature_maps import FEATURE_MAPS, LEARNABLE_MAPS, make_feature_map, unit
from flare_jax.layers.linear import Linear
from flare_jax.layers.norms import make_norm
from flare_jax.layers.residual_mlp import ResidualMLP, apply_branches
from flare_jax.mixers.block import PreNormBlock
from flare_jax.mixers.heads import check_attention_heads, merge_heads, split_heads
from flare_jax.option_groups import BlockConfig, depth, mlp_kernel, ratio
from flare_jax.options import MAX_RATIO, option


@dataclass(frozen=True, kw_only=True)
class StateConfig(BlockConfig):
    """Options of every mixer with a polynomial state but for the depth of its projections and its features.

    Queries, keys and values are residual MLPs C → C → C. The feature map acts per head on queries and keys.
    """

    act: str | None = option(None, help="activation of the residual MLPs", choices=RESIDUAL_MLP_ACTIVATIONS)
    mlp_implementation: str | None = mlp_kernel()

    @property
    def projection_act(self) -> str | None:
        """Activation of the projections."""
        return self.act

    def check_together(self) -> None:
        """Refuse dropout of attention weights."""
        super().check_together()
        refuse_attention_dropout("attention through a state", self.attn_drop)


@dataclass(frozen=True, kw_only=True)
class StateBlockConfig(StateConfig):
    """Options of a mixer with a polynomial state and of the block around it."""

    kernel: str = option("identity", help="feature map of queries and keys", choices=FEATURE_MAPS)
    norm_q: bool = option(False, help="scale the features of queries to unit length")
    norm_k: bool = option(False, help="scale the features of keys to unit length")
    qk_dim_ratio: float = option(
        1.0,
        help="width of a learnable feature map over the head width",
        above=0,
        maximum=MAX_RATIO,
        needs=("kernel", tuple(LEARNABLE_MAPS)),
    )
    num_layers_kv_proj: int = depth(-1, "query, key and value MLPs")
    num_layers_ffn: int = depth(0, "feed-forward part")
    ffn_mlp_ratio: float = ratio(4.0, "feed-forward part", unless=("num_layers_ffn", -1))


class StateAttention(nnx.Module):
    """Base of the mixers whose cost is linear in N because tokens meet in sums over the sequence only."""

    def __init__(
        self,
        channel_dim: int,
        config: StateConfig,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.num_heads, self.head_dim = check_attention_heads(channel_dim, config.num_heads)
        self.config = config
        self.dtype = check_dtype(dtype)
        self.kernel = make_feature_map(
            config.kernel, self.head_dim, qk_dim_ratio=config.qk_dim_ratio, dtype=dtype, rngs=rngs
        )
        self.norm = make_norm(channel_dim, rmsnorm=config.rmsnorm, dtype=dtype)
        self.out_proj = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)
        self.proj_drop = config.proj_drop

    def make_projection(self, rngs: nnx.Rngs) -> ResidualMLP:
        """Return a new projection of the tokens to queries, keys or values."""
        channel_dim = self.num_heads * self.head_dim
        return ResidualMLP(
            channel_dim,
            channel_dim,
            channel_dim,
            num_layers=self.config.num_layers_kv_proj,
            act=self.config.projection_act,
            dtype=self.dtype,
            implementation=self.config.mlp_implementation,
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
        q = [self._features(part, self.config.norm_q) for part in heads[: len(queries)]]
        k = [self._features(part, self.config.norm_k) for part in heads[len(queries) : first_value]]
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


class StateBlock(PreNormBlock):
    """Pre-norm block of a mixer with a polynomial state and a residual MLP."""

    mixer: type[StateAttention]

    def __init__(self, channel_dim: int, config: StateBlockConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        att = self.mixer(channel_dim, config, dtype=dtype, rngs=rngs)
        mlp = ResidualMLP(
            channel_dim,
            scaled_width("ffn_mlp_ratio", channel_dim, config.ffn_mlp_ratio),
            channel_dim,
            num_layers=config.num_layers_ffn,
            act=config.act,
            dtype=dtype,
            implementation=config.mlp_implementation,
            rngs=rngs,
        )
        super().__init__(channel_dim, att=att, mlp=mlp, rmsnorm=config.rmsnorm, dtype=dtype)


def mean_outer_product(k: Float[Array, "B N H D_k"], v: Float[Array, "B N H D_v"]) -> Float[Array, "B H D_k D_v"]:
    """Return `1/N Σ_n k_n v_nᵀ` per head in float32, with N the length of the arrays, padding included."""
    return jnp.einsum("bnhi,bnhj->bhij", k, v, preferred_element_type=jnp.float32) / v.shape[1]

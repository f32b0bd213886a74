"""FLARE attention: learned latents gather from all points and scatter back (FLARE, arXiv 2508.12594)."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_choice, check_dtype, check_head_dim, check_integer, check_positive, scaled_width
from flare_jax.layers.activations import RESIDUAL_MLP_ACTIVATIONS
from flare_jax.layers.dropout import Key, dropout, split_key
from flare_jax.layers.initializers import latents
from flare_jax.layers.linear import Linear
from flare_jax.layers.norms import RMS_NORM_EPSILON, LayerNorm, RMSNorm, make_norm
from flare_jax.layers.residual_mlp import ResidualMLP, apply_branches, apply_linears
from flare_jax.layers.rotary import RotaryEmbedding, check_even_heads
from flare_jax.layers.sharding import on_each_device
from flare_jax.mixers.attention import softmax_attention
from flare_jax.mixers.heads import split_heads
from flare_jax.mixers.self_attention import SelfAttentionBlock, SelfAttentionConfig
from flare_jax.option_groups import blocks, depth, heads, latent_count, mlp_kernel, rate, ratio
from flare_jax.options import Config, option
from kernels.flare_mixer import flare_mixer


@dataclass(frozen=True, kw_only=True)
class FlareMixingConfig(Config):
    """Options of FLARE attention but for the depths of its key and value MLPs."""

    num_heads: int | None = heads(None, "channel_dim // 8")
    num_latents: int = latent_count()
    attn_scale: str | float = option(
        "one", help="factor of the logits: 'one', 'sqrt' (1/√D) or a number", choices=("one", "sqrt"), above=0
    )
    qk_norm: bool = option(False, help="normalise latents and keys of each head")
    act: str | None = option(None, help="activation of the residual MLPs", choices=RESIDUAL_MLP_ACTIVATIONS)
    rmsnorm: bool = option(False, help="RMS norms instead of layer norms")
    shared_latents: bool = option(False, help="the same latents for all heads of a block")
    num_latent_blocks: int = blocks(0, "transformer blocks among the latents of each block", minimum=0)
    gating: bool = option(False, help="multiply the merged heads by the sigmoid of an MLP of the points")
    num_layers_gating_proj: int = depth(3, "gate", needs="gating")
    gating_proj_mlp_ratio: float = ratio(1.0, "gate", needs="gating", unless=("num_layers_gating_proj", -1))
    attn_drop: float = rate("the weights of both softmaxes, which are then stored")
    proj_drop: float = rate("the output of the mixer")
    implementation: str | None = option(None, help="kernel of the mixing (kernels.flare_mixer); None chooses")
    mlp_implementation: str | None = mlp_kernel()

    def check_together(self) -> None:
        """Raise for options of the latents that exclude each other."""
        super().check_together()
        if self.num_latent_blocks and self.shared_latents:
            raise ValueError(
                f"num_latent_blocks is {self.num_latent_blocks} but shared_latents needs 0; switch one of the two off"
            )
        if self.num_latent_blocks and self.implementation is not None:
            raise ValueError(
                f"implementation {self.implementation!r} has no latent blocks, of which num_latent_blocks asks for "
                f"{self.num_latent_blocks}; use implementation=None"
            )


@dataclass(frozen=True, kw_only=True)
class FlareAttentionConfig(FlareMixingConfig):
    """Options of FLARE attention."""

    num_layers_k_proj: int = depth(3, "key MLPs")
    num_layers_v_proj: int = depth(3, "value MLPs")
    k_proj_mlp_ratio: float = ratio(1.0, "key MLPs", unless=("num_layers_k_proj", -1))
    v_proj_mlp_ratio: float = ratio(1.0, "value MLPs", unless=("num_layers_v_proj", -1))

    @property
    def key_value_mlps(self) -> tuple[tuple[int, int | float, str], ...]:
        """Depth and width ratio of the key and of the value MLP, and the name of the ratio."""
        return (
            (self.num_layers_k_proj, self.k_proj_mlp_ratio, "k_proj_mlp_ratio"),
            (self.num_layers_v_proj, self.v_proj_mlp_ratio, "v_proj_mlp_ratio"),
        )


@dataclass(frozen=True, kw_only=True)
class TiedKeyValueConfig(FlareMixingConfig):
    """Options of FLARE attention whose key and value MLPs have one depth and one width."""

    num_layers_kv_proj: int = depth(3, "key and value MLPs")
    kv_proj_mlp_ratio: float = ratio(1.0, "key and value MLPs", unless=("num_layers_kv_proj", -1))

    @property
    def key_value_mlps(self) -> tuple[tuple[int, int | float, str], ...]:
        """Depth and width ratio of the key and of the value MLP, and the name of the ratio."""
        return ((self.num_layers_kv_proj, self.kv_proj_mlp_ratio, "kv_proj_mlp_ratio"),) * 2


class FlareAttention(nnx.Module):
    """Token mixer of cost O(N·M): `z = softmax_N(s q kᵀ) v`, `y = softmax_M(s k qᵀ) z` per head, with M latents q.

    Keys and values are residual MLPs of the points; `attn_scale` is s. The mixing matrix of a head has rank M at most.
    `num_latent_blocks` inserts self-attention among the latents between the two steps, without `implementation` and
    storing the softmax weights. `gating` is that of arXiv 2505.06708. `rope` gives the keys their positions in a
    sequence. `initial_latents` stores the latents as [H, M, D] and with these values; `rms_epsilon` is that of the RMS
    norms of heads. Raises ValueError if `num_heads` does not divide `channel_dim`.
    """

    def __init__(
        self,
        channel_dim: int,
        config: FlareAttentionConfig | TiedKeyValueConfig,
        *,
        rope: RotaryEmbedding | None = None,
        initial_latents: Float[Array, "H M D"] | None = None,
        rms_epsilon: float = RMS_NORM_EPSILON,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_integer("channel_dim", channel_dim)
        self.num_heads = channel_dim // 8 if config.num_heads is None else config.num_heads
        self.num_latents = config.num_latents
        self.head_dim = check_head_dim(channel_dim, self.num_heads)
        self.scale = resolve_scale(config.attn_scale, self.head_dim)
        self.dtype = check_dtype(dtype)
        self.implementation = config.implementation
        self.attn_drop, self.proj_drop = config.attn_drop, config.proj_drop
        self.rope = rope
        if rope is not None:
            check_even_heads(self.head_dim)
        # Stored [C, M] and read by reshape, not transposed: this keeps checkpoints of the original valid.
        width = self.head_dim if config.shared_latents else channel_dim
        if initial_latents is None:
            initial_latents = latents(rngs.params(), (width, config.num_latents))
        self.latent_q = nnx.Param(initial_latents)

        def projection(num_layers: int, mlp_ratio: float, name: str) -> ResidualMLP:
            return ResidualMLP(
                channel_dim,
                scaled_width(name, channel_dim, mlp_ratio),
                channel_dim,
                num_layers=num_layers,
                act=config.act,
                dtype=dtype,
                implementation=config.mlp_implementation,
                rngs=rngs,
            )

        def norm() -> LayerNorm | RMSNorm | None:
            kind = {"rmsnorm": config.rmsnorm, "rms_epsilon": rms_epsilon, "dtype": dtype}
            return make_norm(self.head_dim, **kind) if config.qk_norm else None

        self.k_proj, self.v_proj = (projection(*mlp) for mlp in config.key_value_mlps)
        self.q_norm, self.k_norm = norm(), norm()
        among_latents = SelfAttentionConfig(num_heads=self.num_heads, act=config.act)
        self.latent_blocks = nnx.List(
            [
                SelfAttentionBlock(channel_dim, among_latents, dtype=dtype, rngs=rngs)
                for _ in range(config.num_latent_blocks)
            ]
        )
        gate = (config.num_layers_gating_proj, config.gating_proj_mlp_ratio, "gating_proj_mlp_ratio")
        self.g_proj = projection(*gate) if config.gating else None
        self.out_proj = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None = None, key: Key | None = None
    ) -> Float[Array, "B N C"]:
        """Mix the real points of each sample; a padded point receives the bias of `out_proj`."""
        attn_key, proj_key = split_key(key, 2)
        mixed = self.mix(x, mask, key=attn_key)
        (y,) = apply_linears((self.out_proj,), mixed, implementation=self.k_proj.implementation)
        return dropout(y, self.proj_drop, proj_key)

    def mix(
        self,
        x: Float[Array, "B N C"],
        mask: Bool[Array, "B N"] | None = None,
        norm: LayerNorm | RMSNorm | None = None,
        key: Key | None = None,
    ) -> Float[Array, "B N C"]:
        """Return the merged heads before `out_proj`; `norm` is applied to x by the kernel of the projections."""
        gating = () if self.g_proj is None else (self.g_proj,)
        k, v, *gates = apply_branches((self.k_proj, self.v_proj, *gating), x, norm)
        q, k, v = self.queries(), self._keys(k), split_heads(v, self.num_heads)
        if self.latent_blocks or (key is not None and self.attn_drop):
            y = self._mix_with_stored_weights(q, k, v, mask, key)
        else:
            y = self._mix_in_kernel(q, k, v, mask)
        y = y.reshape(x.shape)
        return y * jax.nn.sigmoid(gates[0]) if gates else y

    def keys_and_values(
        self, x: Float[Array, "B N C"], norm: LayerNorm | RMSNorm | None = None
    ) -> tuple[Float[Array, "B N H D"], Float[Array, "B N H D"]]:
        """Return what the latents read of the points x, normalised by `norm` if given."""
        k, v = apply_branches((self.k_proj, self.v_proj), x, norm)
        return self._keys(k), split_heads(v, self.num_heads)

    def keys(self, x: Float[Array, "B N C"], norm: LayerNorm | RMSNorm | None = None) -> Float[Array, "B N H D"]:
        """Return the keys alone, by which points read the latents."""
        (k,) = apply_branches((self.k_proj,), x, norm)
        return self._keys(k)

    def scores(self, x: Float[Array, "B N C"]) -> Float[Array, "B H M N"]:
        """Return the scaled logits `s q kᵀ` in float32, one per head, latent and point; only analysis needs them."""
        if self.latent_blocks:
            raise ValueError(
                f"scores do not describe the mixing when num_latent_blocks is {len(self.latent_blocks)}; "
                "analyse a model with num_latent_blocks=0"
            )
        q, k = self.queries(), self._keys(self.k_proj(x))
        products = jnp.einsum("hmd,bnhd->bhmn", q, k, precision="highest", preferred_element_type=jnp.float32)
        return self.scale * products

    def queries(self) -> Float[Array, "H M D"]:
        """Return the latents as queries in the compute dtype."""
        q = self.latent_q[...].reshape(-1, self.num_latents, self.head_dim)
        q = q if self.q_norm is None else self.q_norm(q)
        return jnp.broadcast_to(q, (self.num_heads, *q.shape[1:])).astype(self.dtype)

    def _keys(self, projected: Float[Array, "B N C"]) -> Float[Array, "B N H D"]:
        k = split_heads(projected, self.num_heads)
        k = k if self.k_norm is None else self.k_norm(k)
        return k if self.rope is None else self.rope(k)

    def _mix_in_kernel(
        self,
        q: Float[Array, "H M D"],
        k: Float[Array, "B N H D"],
        v: Float[Array, "B N H D"],
        mask: Bool[Array, "B N"] | None,
    ) -> Float[Array, "B N H D"]:
        def kernel(points: Any, q: Array, axis_name: str | None) -> Array:
            k, v, mask = points
            return flare_mixer(
                q, k, v, scale=self.scale, mask=mask, implementation=self.implementation, axis_name=axis_name
            )

        return on_each_device(kernel, (k, v, mask), q, leading=k.shape[:2], implementation=self.implementation)

    def _mix_with_stored_weights(
        self,
        q: Float[Array, "H M D"],
        k: Float[Array, "B N H D"],
        v: Float[Array, "B N H D"],
        mask: Bool[Array, "B N"] | None,
        key: Key | None,
    ) -> Float[Array, "B N H D"]:
        """Gather to the latents, apply the latent blocks on [B, M, C], scatter back; drop weights of both steps."""
        gather_key, scatter_key = split_key(key, 2)
        rate = self.attn_drop
        queries = jnp.broadcast_to(q.swapaxes(0, 1), (k.shape[0], self.num_latents, self.num_heads, self.head_dim))
        z = softmax_attention(queries, k, v, scale=self.scale, mask=mask, drop_rate=rate, key=gather_key)
        z = z.reshape(*z.shape[:2], -1)
        for block in self.latent_blocks:
            z = block(z)
        y = softmax_attention(
            k, queries, split_heads(z, self.num_heads), scale=self.scale, drop_rate=rate, key=scatter_key
        )
        return y if mask is None else jnp.where(mask[:, :, None, None], y, 0)


def resolve_scale(attn_scale: str | float, head_dim: int) -> float:
    """Return the factor of the logits: 1 for 'one', 1/√D for 'sqrt', or the positive number given."""
    if isinstance(attn_scale, str):
        check_choice("attn_scale", attn_scale, ("one", "sqrt"))
        return 1.0 if attn_scale == "one" else head_dim**-0.5
    return check_positive("attn_scale", attn_scale)

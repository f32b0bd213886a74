"""FLARE attention: learned latents gather from all points and scatter back (FLARE, arXiv 2508.12594)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import (
    check_choice,
    check_depths,
    check_dtype,
    check_head_dim,
    check_integer,
    check_positive,
    scaled_width,
)
from flare_jax.layers.dropout import Key, check_rate, dropout, split_key
from flare_jax.layers.initializers import latents
from flare_jax.layers.linear import Linear
from flare_jax.layers.norms import RMS_NORM_EPSILON, LayerNorm, RMSNorm, make_norm
from flare_jax.layers.residual_mlp import ResidualMLP, apply_branches
from flare_jax.layers.rotary import RotaryEmbedding, check_even_heads
from flare_jax.layers.sharding import on_each_device
from flare_jax.mixers.attention import softmax_attention
from flare_jax.mixers.heads import split_heads
from flare_jax.mixers.self_attention import SelfAttentionBlock
from kernels.flare_mixer import flare_mixer


class FlareAttention(nnx.Module):
    """Token mixer of cost O(N·M): `z = softmax_N(s q kᵀ) v`, `y = softmax_M(s k qᵀ) z` per head, with M latents q.

    Keys and values are residual MLPs of the points. `attn_scale` is s: 'one', 'sqrt' (1/√D) or a number.
    `shared_latents` gives all heads the same latents; `num_latent_blocks` inserts self-attention among the latents
    between the two steps, without `implementation` and storing the softmax weights. The mixing matrix of a head has
    rank M at most. `implementation` and `mlp_implementation` name the kernels of the mixing and of the projections
    (`kernels.flare_mixer`, `kernels.residual_mlp`); None chooses. `gating` multiplies the merged heads by the sigmoid
    of a residual MLP of the points (arXiv 2505.06708). `initial_latents` stores the latents as [H, M, D] and with these
    values; `rms_epsilon` is that of the RMS norms of heads. `rope` gives the keys their positions in a sequence. With a
    random key, `attn_drop` of the weights of both softmaxes, which are then stored, and `proj_drop` of the output are
    dropped.
    """

    def __init__(
        self,
        channel_dim: int,
        *,
        num_heads: int,
        num_latents: int,
        attn_scale: str | float = "one",
        num_layers_k_proj: int = 3,
        num_layers_v_proj: int = 3,
        k_proj_mlp_ratio: float = 1.0,
        v_proj_mlp_ratio: float = 1.0,
        qk_norm: bool = False,
        rmsnorm: bool = False,
        act: str | None = None,
        shared_latents: bool = False,
        num_latent_blocks: int = 0,
        gating: bool = False,
        num_layers_gating_proj: int = 3,
        gating_proj_mlp_ratio: float = 1.0,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        rope: RotaryEmbedding | None = None,
        dtype: DTypeLike = jnp.float32,
        implementation: str | None = None,
        mlp_implementation: str | None = None,
        initial_latents: Float[Array, "H M D"] | None = None,
        rms_epsilon: float = RMS_NORM_EPSILON,
        rngs: nnx.Rngs,
    ):
        self.num_heads = num_heads
        self.num_latents = check_integer("num_latents", num_latents)
        self.head_dim = check_head_dim(channel_dim, num_heads)
        self.scale = resolve_scale(attn_scale, self.head_dim)
        self.dtype = check_dtype(dtype)
        self.implementation = implementation
        self.attn_drop = check_rate("attn_drop", attn_drop)
        self.proj_drop = check_rate("proj_drop", proj_drop)
        self.rope = rope
        if rope is not None:
            check_even_heads(self.head_dim)
        check_depths(
            num_layers_k_proj=num_layers_k_proj,
            num_layers_v_proj=num_layers_v_proj,
            num_layers_gating_proj=num_layers_gating_proj,
        )
        _check_latent_blocks(num_latent_blocks, shared_latents, implementation)

        k_hidden = scaled_width("k_proj_mlp_ratio", channel_dim, k_proj_mlp_ratio)
        v_hidden = scaled_width("v_proj_mlp_ratio", channel_dim, v_proj_mlp_ratio)
        g_hidden = scaled_width("gating_proj_mlp_ratio", channel_dim, gating_proj_mlp_ratio)
        # Stored [C, M] and read by reshape, not transposed: this keeps checkpoints of the original valid.
        width = self.head_dim if shared_latents else channel_dim
        if initial_latents is None:
            initial_latents = latents(rngs.params(), (width, num_latents))
        self.latent_q = nnx.Param(initial_latents)

        def projection(hidden_dim: int, num_layers: int) -> ResidualMLP:
            return ResidualMLP(
                channel_dim,
                hidden_dim,
                channel_dim,
                num_layers=num_layers,
                act=act,
                dtype=dtype,
                implementation=mlp_implementation,
                rngs=rngs,
            )

        self.k_proj = projection(k_hidden, num_layers_k_proj)
        self.v_proj = projection(v_hidden, num_layers_v_proj)
        norm = {"rmsnorm": rmsnorm, "rms_epsilon": rms_epsilon, "dtype": dtype}
        self.q_norm = make_norm(self.head_dim, **norm) if qk_norm else None
        self.k_norm = make_norm(self.head_dim, **norm) if qk_norm else None
        self.latent_blocks = nnx.List(
            [
                SelfAttentionBlock(channel_dim, num_heads=num_heads, act=act, dtype=dtype, rngs=rngs)
                for _ in range(num_latent_blocks)
            ]
        )
        self.g_proj = projection(g_hidden, num_layers_gating_proj) if gating else None
        self.out_proj = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None = None, key: Key | None = None
    ) -> Float[Array, "B N C"]:
        """Mix the real points of each sample; a padded point receives the bias of `out_proj`."""
        attn_key, proj_key = split_key(key, 2)
        return dropout(self.out_proj(self.mix(x, mask, key=attn_key)), self.proj_drop, proj_key)

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


def _check_latent_blocks(num_latent_blocks: int, shared_latents: bool, implementation: str | None) -> None:
    check_integer("num_latent_blocks", num_latent_blocks, minimum=0)
    if num_latent_blocks and shared_latents:
        raise ValueError(
            f"num_latent_blocks is {num_latent_blocks} but shared_latents needs 0; switch one of the two options off"
        )
    if num_latent_blocks and implementation is not None:
        raise ValueError(
            f"implementation {implementation!r} has no latent blocks, of which num_latent_blocks asks for "
            f"{num_latent_blocks}; use implementation=None"
        )

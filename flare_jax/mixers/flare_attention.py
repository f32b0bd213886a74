"""FLARE attention: learned latents gather from all points and scatter back (FLARE, arXiv 2508.12594)."""

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
from flare_jax.layers.initializers import latents
from flare_jax.layers.linear import Linear
from flare_jax.layers.norms import LayerNorm, RMSNorm, make_norm
from flare_jax.layers.residual_mlp import ResidualMLP, apply_branches
from flare_jax.mixers.attention import softmax_attention
from flare_jax.mixers.self_attention import SelfAttentionBlock
from kernels.flare_mixer import flare_mixer


class FlareAttention(nnx.Module):
    """Token mixer of cost O(N·M): `z = softmax_N(s q kᵀ) v`, `y = softmax_M(s k qᵀ) z` per head, with M latents q.

    Keys and values are residual MLPs of the points. `attn_scale` is s: 'one', 'sqrt' (1/√D) or a number.
    `shared_latents` gives all heads the same latents; `num_latent_blocks` inserts self-attention among the latents
    between the two steps, without `implementation` and storing the softmax weights. The mixing matrix of a head has
    rank M at most. `implementation` and `mlp_implementation` name the kernels of the mixing and of the projections
    (`kernels.flare_mixer`, `kernels.residual_mlp`); None chooses.
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
        dtype: DTypeLike = jnp.float32,
        implementation: str | None = None,
        mlp_implementation: str | None = None,
        rngs: nnx.Rngs,
    ):
        self.num_heads = num_heads
        self.num_latents = check_integer("num_latents", num_latents)
        self.head_dim = check_head_dim(channel_dim, num_heads)
        self.scale = resolve_scale(attn_scale, self.head_dim)
        self.dtype = check_dtype(dtype)
        self.implementation = implementation
        check_depths(num_layers_k_proj=num_layers_k_proj, num_layers_v_proj=num_layers_v_proj)
        _check_latent_blocks(num_latent_blocks, shared_latents, implementation)

        k_hidden = scaled_width("k_proj_mlp_ratio", channel_dim, k_proj_mlp_ratio)
        v_hidden = scaled_width("v_proj_mlp_ratio", channel_dim, v_proj_mlp_ratio)
        # Stored [C, M] and read by reshape, not transposed: this keeps checkpoints of the original valid.
        width = self.head_dim if shared_latents else channel_dim
        self.latent_q = nnx.Param(latents(rngs.params(), (width, num_latents)))

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
        self.q_norm = make_norm(self.head_dim, rmsnorm=rmsnorm, dtype=dtype) if qk_norm else None
        self.k_norm = make_norm(self.head_dim, rmsnorm=rmsnorm, dtype=dtype) if qk_norm else None
        self.latent_blocks = nnx.List(
            [
                SelfAttentionBlock(channel_dim, num_heads=num_heads, act=act, dtype=dtype, rngs=rngs)
                for _ in range(num_latent_blocks)
            ]
        )
        self.out_proj = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None = None) -> Float[Array, "B N C"]:
        """Mix the real points of each sample; a padded point receives the bias of `out_proj`."""
        return self.out_proj(self.mix(x, mask))

    def mix(
        self,
        x: Float[Array, "B N C"],
        mask: Bool[Array, "B N"] | None = None,
        norm: LayerNorm | RMSNorm | None = None,
    ) -> Float[Array, "B N C"]:
        """Return the merged heads before `out_proj`; `norm` is applied to x by the kernel of the projections."""
        k, v = map(self._split_heads, apply_branches((self.k_proj, self.v_proj), x, norm))
        q, k = self._queries(), k if self.k_norm is None else self.k_norm(k)
        if self.latent_blocks:
            y = self._mix_through_blocks(q, k, v, mask)
        else:
            y = flare_mixer(q, k, v, scale=self.scale, mask=mask, implementation=self.implementation)
        return y.reshape(x.shape)

    def scores(self, x: Float[Array, "B N C"]) -> Float[Array, "B H M N"]:
        """Return the scaled logits `s q kᵀ` in float32, one per head, latent and point; only analysis needs them."""
        if self.latent_blocks:
            raise ValueError(
                f"scores do not describe the mixing when num_latent_blocks is {len(self.latent_blocks)}; "
                "analyse a model with num_latent_blocks=0"
            )
        q, k = self._queries(), self._split_heads(self.k_proj(x))
        k = k if self.k_norm is None else self.k_norm(k)
        products = jnp.einsum("hmd,bnhd->bhmn", q, k, precision="highest", preferred_element_type=jnp.float32)
        return self.scale * products

    def _queries(self) -> Float[Array, "H M D"]:
        q = self.latent_q[...].reshape(-1, self.num_latents, self.head_dim)
        q = q if self.q_norm is None else self.q_norm(q)
        return jnp.broadcast_to(q, (self.num_heads, *q.shape[1:])).astype(self.dtype)

    def _split_heads(self, x: Float[Array, "B N C"]) -> Float[Array, "B N H D"]:
        return x.reshape(*x.shape[:2], self.num_heads, self.head_dim)

    def _mix_through_blocks(
        self,
        q: Float[Array, "H M D"],
        k: Float[Array, "B N H D"],
        v: Float[Array, "B N H D"],
        mask: Bool[Array, "B N"] | None,
    ) -> Float[Array, "B N H D"]:
        """Gather to the latents, apply the latent blocks on [B, M, C], scatter back."""
        queries = jnp.broadcast_to(q.swapaxes(0, 1), (k.shape[0], self.num_latents, self.num_heads, self.head_dim))
        z = softmax_attention(queries, k, v, scale=self.scale, mask=mask)
        z = z.reshape(*z.shape[:2], -1)
        for block in self.latent_blocks:
            z = block(z)
        y = softmax_attention(k, queries, self._split_heads(z), scale=self.scale)
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
